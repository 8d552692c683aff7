{{/* Whether a role's pods keep a model outside their image. */}}
{{- define "medreward.keepsModels" -}}
{{- if and (ne .model.source "image") (or .model.id .model.path) -}}yes{{- end -}}
{{- end -}}

{{/* The model as a role's settings name it. */}}
{{- define "medreward.modelName" -}}
{{- if eq .model.source "pvc" -}}
{{- printf "/cache/%s" (.model.path | trimPrefix "/") -}}
{{- else if and (eq .model.source "image") .model.path -}}
{{- .model.path -}}
{{- else -}}
{{- .model.id -}}
{{- end -}}
{{- end -}}

{{/* The environment of a role, which holds no secret: list of the root, the role's name and values. */}}
{{- define "medreward.env" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $role := index . 2 -}}
{{- $fullname := include "medreward.fullname" $root -}}
{{- $isFront := eq $name (include "medreward.front" $root) -}}
{{- $settings := dict
  "role" (ternary "all" $name (eq $name "single"))
  "host" "0.0.0.0"
  "port" "8080"
  "admin_port" "9464"
  "drain_delay_s" (toString $root.Values.drain.delaySeconds)
  "drain_s" (toString $root.Values.drain.seconds)
  "secrets_dir" "/run/secrets/medreward"
  "log_format" "json" -}}
{{- $model := include "medreward.modelName" $role -}}
{{- $noun := ternary "embedder" "judge" (eq $name "embed") -}}
{{- with $role.engine -}}{{- $_ := set $settings $noun . -}}{{- end -}}
{{- with $model -}}{{- $_ := set $settings (printf "%s_model" $noun) . -}}{{- end -}}
{{- with $role.model.revision -}}{{- $_ := set $settings (printf "%s_revision" $noun) . -}}{{- end -}}
{{- if and (eq $name "judge") (gt (int $role.gpu.count) 1) -}}{{- $_ := set $settings "vllm_tensor_parallel" (toString $role.gpu.count) -}}{{- end -}}
{{- if eq $name "api" -}}
{{- if $root.Values.external.judge.url -}}
{{- $_ := set $settings "judge" "openai" -}}
{{- $_ := set $settings "judge_url" $root.Values.external.judge.url -}}
{{- $_ := set $settings "judge_model" $root.Values.external.judge.model -}}
{{- else -}}
{{- $_ := set $settings "judge_url" (printf "http://%s-judge:8080" $fullname) -}}
{{- end -}}
{{- if $root.Values.external.embedder.url -}}
{{- $_ := set $settings "embedder" "openai" -}}
{{- $_ := set $settings "embedder_url" $root.Values.external.embedder.url -}}
{{- $_ := set $settings "embedder_model" $root.Values.external.embedder.model -}}
{{- else -}}
{{- $_ := set $settings "embedder_url" (printf "http://%s-embed:8080" $fullname) -}}
{{- end -}}
{{- end -}}
{{- if $isFront -}}
{{- if $root.Values.api.allowUnauthenticated -}}{{- $_ := set $settings "allow_unauthenticated" "true" -}}{{- end -}}
{{- if include "medreward.hasRecipes" $root -}}{{- $_ := set $settings "recipes" "/etc/medreward/recipes" -}}{{- end -}}
{{- if $root.Values.redis.enabled -}}{{- $settings = merge (fromYaml (include "medreward.redisSettings" $root)) $settings -}}{{- end -}}
{{- end -}}
{{- $settings = merge (deepCopy $role.settings) (deepCopy $root.Values.api.settings) $settings -}}
{{- range $key := keys $settings | sortAlpha }}
- {name: MEDREWARD_{{ upper $key }}, value: {{ index $settings $key | toString | quote }}}
{{- end }}
- {name: HOME, value: /home/medreward}
- {name: USER, value: medreward}
- {name: XDG_CACHE_HOME, value: /home/medreward/.cache}
{{- if include "medreward.keepsModels" $role }}
- {name: HF_HOME, value: /cache/huggingface}
{{- else }}
- {name: HF_HOME, value: /home/medreward/huggingface}
{{- end }}
- {name: VLLM_CACHE_ROOT, value: /home/medreward/vllm}
- {name: TORCHINDUCTOR_CACHE_DIR, value: /home/medreward/inductor}
- {name: TRITON_CACHE_DIR, value: /home/medreward/triton}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
{{- if or $root.Values.hub.offline (not (and $role.model.id (eq $role.model.source "hub"))) }}
- {name: HF_HUB_OFFLINE, value: "1"}
- {name: TRANSFORMERS_OFFLINE, value: "1"}
{{- end }}
{{- if and $root.Values.hub.existingSecret (eq $role.model.source "hub") $role.model.id }}
- {name: HF_TOKEN_PATH, value: /run/secrets/medreward/hub-token}
{{- end }}
{{- with $role.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Settings of Redis, but for what is secret. */}}
{{- define "medreward.redisSettings" -}}
{{- $redis := .Values.redis -}}
{{- $scheme := ternary "rediss" "redis" $redis.tls.enabled -}}
{{- $host := ternary (printf "%s-valkey" (include "medreward.fullname" .)) $redis.host .Values.valkey.enabled -}}
{{- $user := ternary (printf "%s@" $redis.user) "" (ne $redis.user "") }}
redis_url: {{ printf "%s://%s%s:%d/%d" $scheme $user $host (int $redis.port) (int $redis.database) | quote }}
redis_mode: {{ $redis.mode }}
{{- with $redis.hosts }}
redis_hosts: {{ join "," . | quote }}
{{- end }}
{{- if eq $redis.mode "sentinel" }}
redis_sentinel_master: {{ $redis.sentinelMaster }}
{{- end }}
{{- if include "medreward.redisSecret" . }}
redis_password_file: /run/secrets/medreward/redis-password
{{- end }}
{{- if and $redis.tls.enabled $redis.tls.existingSecret }}
redis_ca_file: /run/secrets/redis-tls/ca.crt
{{- if $redis.tls.clientCertificate }}
redis_cert_file: /run/secrets/redis-tls/tls.crt
redis_key_file: /run/secrets/redis-tls/tls.key
{{- end }}
{{- end }}
{{- if $redis.tls.enabled }}
redis_tls_check: {{ $redis.tls.check }}
{{- end }}
{{- end -}}

{{/* The secrets of a role, as files named like settings: list of the root and the role's name. */}}
{{- define "medreward.secretSources" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}
{{- $isFront := eq $name (include "medreward.front" $root) -}}
{{- $external := $root.Values.external }}
- secret:
    name: {{ include "medreward.innerSecret" $root }}
    items:
      - {key: drain-token, path: medreward_drain_token}
      - {key: fence-secret, path: medreward_secret}
      {{- if not $isFront }}
      - {key: inner-key, path: medreward_api_keys}
      {{- else if eq $name "api" }}
      {{- if not $external.judge.url }}
      - {key: inner-key, path: medreward_judge_api_key}
      {{- end }}
      {{- if not $external.embedder.url }}
      - {key: inner-key, path: medreward_embedder_api_key}
      {{- end }}
      {{- end }}
{{- if and $isFront (not $root.Values.api.allowUnauthenticated) }}
- secret:
    name: {{ include "medreward.apiSecret" $root }}
    items:
      - {key: {{ include "medreward.apiSecretKey" $root }}, path: medreward_api_keys}
{{- end }}
{{- if eq $name "api" }}
{{- range $noun := list "judge" "embedder" }}
{{- $server := index $external $noun }}
{{- if and $server.url $server.existingSecret }}
- secret:
    name: {{ $server.existingSecret }}
    items:
      - {key: {{ $server.existingSecretKey }}, path: medreward_{{ $noun }}_api_key}
{{- end }}
{{- end }}
{{- end }}
{{- if and $isFront $root.Values.redis.enabled (include "medreward.redisSecret" $root) }}
- secret:
    name: {{ include "medreward.redisSecret" $root }}
    items:
      - {key: {{ include "medreward.redisSecretKey" $root }}, path: redis-password}
      {{- with $root.Values.redis.sentinelPasswordKey }}
      - {key: {{ . }}, path: medreward_redis_sentinel_password}
      {{- end }}
{{- end }}
{{- if and $root.Values.hub.existingSecret (not $isFront) }}
- secret:
    name: {{ $root.Values.hub.existingSecret }}
    items:
      - {key: {{ $root.Values.hub.existingSecretKey }}, path: hub-token}
{{- end }}
{{- end -}}
