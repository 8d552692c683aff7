#!/bin/sh
# Makes the secrets of docker-compose.yml, once; what is there stays.
#
#   sh deploy/make_secrets.sh
#   HF_TOKEN=… sh deploy/make_secrets.sh    # for models that a hub gives only to those it knows
set -eu
cd "$(dirname "$0")/.."
mkdir -p secrets
# The folder is yours alone; the files in it are read in containers by another user.
chmod 700 secrets
for name in medreward_api_keys medreward_inner_key medreward_drain_token grafana_password; do
  if [ ! -s "secrets/$name" ]; then
    head -c 24 /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_' > "secrets/$name"
  fi
done
if [ ! -e secrets/hf_token ] || [ -n "${HF_TOKEN:-}" ]; then
  printf '%s' "${HF_TOKEN:-}" > secrets/hf_token
fi
chmod 644 secrets/*
# With SELinux, containers read only what is labelled for them.
if command -v selinuxenabled > /dev/null && selinuxenabled; then
  chcon -R -t container_file_t secrets
fi
echo "secrets/ is there. Your key: export MEDREWARD_KEY=\$(cat secrets/medreward_api_keys)"
