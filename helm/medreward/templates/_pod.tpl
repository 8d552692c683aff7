{{/* Whether a role's pods keep a model outside their image. */}}
{{- define "medreward.keepsModels" -}}
{{- if and (ne .model.source "image") (or .model.id .model.path) -}}yes{{- end -}}
{{- end -}}

{{/* Whether a role's model is downloaded: only then it may need the hub's token. */}}
{{- define "medreward.usesHub" -}}
{{- if and .model.id (eq .model.source "hub") -}}yes{{- end -}}
{{- end -}}

{{/* Where a role keeps what it compiles: beside its downloads, unless nothing can be written there. */}}
{{- define "medreward.caches" -}}
{{- if and (include "medreward.keepsModels" .) (ne .model.source "pvc") -}}/cache{{- else -}}/home/medreward{{- end -}}
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
  "host" (include "medreward.host" $root)
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
{{- with $role.vllmArguments -}}{{- $_ := set $settings "vllm_arguments" (toJson .) -}}{{- end -}}
{{- /* An engine that may take longer to start than the service's default is not lost meanwhile. */ -}}
{{- if and (ne $name "api") (gt (int $role.startup.timeoutSeconds) 1800) -}}{{- $_ := set $settings "lost_engine_s" (toString $role.startup.timeoutSeconds) -}}{{- end -}}
{{- if eq $name "api" -}}
{{- if $root.Values.api.readyWhenDegraded -}}{{- $_ := set $settings "ready_when_degraded" "true" -}}{{- end -}}
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
{{- $caches := include "medreward.caches" $role }}
- {name: XDG_CACHE_HOME, value: {{ $caches }}/.cache}
- {name: HF_HOME, value: {{ ternary "/cache" "/home/medreward" (ne (include "medreward.keepsModels" $role) "") }}/huggingface}
- {name: VLLM_CACHE_ROOT, value: {{ $caches }}/vllm}
- {name: TORCHINDUCTOR_CACHE_DIR, value: {{ $caches }}/inductor}
- {name: TRITON_CACHE_DIR, value: {{ $caches }}/triton}
- {name: FLASHINFER_WORKSPACE_BASE, value: {{ $caches }}/flashinfer}
- {name: CUDA_CACHE_PATH, value: {{ $caches }}/nv}
- {name: VLLM_NO_USAGE_STATS, value: "1"}
- {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
{{- if or $root.Values.hub.offline (not (include "medreward.usesHub" $role)) }}
- {name: HF_HUB_OFFLINE, value: "1"}
- {name: TRANSFORMERS_OFFLINE, value: "1"}
{{- end }}
{{- if and $root.Values.hub.existingSecret (include "medreward.usesHub" $role) }}
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

{{/* Seconds until a role's pods are ready: for the role that clients reach, until all of them are, since it is
ready when its engines are. A download takes as long again. List of the root, the role's name and values. */}}
{{- define "medreward.longestStart" -}}
{{- $longest := 0 -}}
{{- $isFront := eq (index . 1) (include "medreward.front" (index . 0)) -}}
{{- range ternary (values (fromYaml (include "medreward.roles" (index . 0)))) (list (index . 2)) $isFront -}}
{{- $longest = max $longest (mul .startup.timeoutSeconds (ternary 2 1 .model.predownload)) -}}
{{- end -}}
{{- $longest -}}
{{- end -}}

{{/* The container that downloads a role's model before the others start, in the same pod: on its node, with
its claim and its environment. List of the root, the role's name and values. */}}
{{- define "medreward.download" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $role := index . 2 -}}
- name: download
  image: {{ include "medreward.image" (list $root $role.image) }}
  imagePullPolicy: {{ $role.image.pullPolicy }}
  command: [hf, download, {{ $role.model.id | quote }}{{ with $role.model.revision }}, --revision, {{ . | quote }}{{ end }}]
  securityContext:
    {{- toYaml $root.Values.containerSecurityContext | nindent 4 }}
    readOnlyRootFilesystem: true
  env:
    - {name: HOME, value: /home/medreward}
    - {name: HF_HOME, value: /cache/huggingface}
    - {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
    {{- if $root.Values.hub.existingSecret }}
    - {name: HF_TOKEN_PATH, value: /run/secrets/hub-token}
    {{- end }}
    {{- with $role.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    requests: {cpu: 500m, memory: 1Gi, ephemeral-storage: 256Mi}
    limits: {cpu: "2", memory: 4Gi, ephemeral-storage: {{ $role.resources.limits | dig "ephemeral-storage" "1Gi" }}}
  volumeMounts:
    - {name: home, mountPath: /home/medreward}
    - {name: tmp, mountPath: /tmp}
    - {name: cache, mountPath: /cache}
    {{- if $root.Values.hub.existingSecret }}
    - {name: secrets, mountPath: /run/secrets/hub-token, subPath: hub-token, readOnly: true}
    {{- end }}
    {{- with $role.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Of a role's secrets that the chart did not make, those that are read at the start alone: as a cluster has
them now, so that a change rolls the pods. Without a cluster to look into it stays the same. List of the root,
the role's name and values. */}}
{{- define "medreward.secretsChecksum" -}}
{{- $root := index . 0 -}}
{{- $fullname := include "medreward.fullname" $root -}}
{{- $made := list (printf "%s-inner" $fullname) (printf "%s-api" $fullname) (printf "%s-valkey" $fullname) -}}
{{- $found := list -}}
{{- range fromYamlArray (include "medreward.secretSources" .) -}}
{{- if not (has .secret.name $made) -}}
{{- $data := (lookup "v1" "Secret" $root.Release.Namespace .secret.name).data | default dict -}}
{{- range .secret.items -}}
{{- if not (has .path (list "medreward_api_keys" "redis-password" "hub-token")) -}}
{{- $found = append $found (list .path (index $data .key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq (index . 1) (include "medreward.front" $root)) $root.Values.redis.tls.existingSecret -}}
{{- $found = append $found (lookup "v1" "Secret" $root.Release.Namespace $root.Values.redis.tls.existingSecret).data -}}
{{- end -}}
{{- $found | toJson | sha256sum -}}
{{- end -}}

{{/* The secrets of a role, as files named like settings: list of the root, the role's name and values. */}}
{{- define "medreward.secretSources" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $role := index . 2 -}}
{{- $isFront := eq $name (include "medreward.front" $root) -}}
{{- $external := $root.Values.external }}
- secret:
    name: {{ include "medreward.innerSecret" $root }}
    items:
      - {key: drain-token, path: medreward_drain_token}
      - {key: fence-secret, path: medreward_secret}
      {{- if not $isFront }}
      - {key: {{ $root.Values.inner.acceptedKey }}, path: medreward_api_keys}
      {{- else if eq $name "api" }}
      {{- if not $external.judge.url }}
      - {key: {{ $root.Values.inner.sentKey }}, path: medreward_judge_api_key}
      {{- end }}
      {{- if not $external.embedder.url }}
      - {key: {{ $root.Values.inner.sentKey }}, path: medreward_embedder_api_key}
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
{{- if and $root.Values.hub.existingSecret (include "medreward.usesHub" $role) }}
- secret:
    name: {{ $root.Values.hub.existingSecret }}
    items:
      - {key: {{ $root.Values.hub.existingSecretKey }}, path: hub-token}
{{- end }}
{{- end -}}
