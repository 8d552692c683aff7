{{/* What a schema cannot say: refused here, with what mends it. */}}
{{- define "medreward.checks" -}}
{{- $roles := fromYaml (include "medreward.roles" .) -}}
{{- if and (eq .Values.mode "single") (or .Values.external.judge.url .Values.external.embedder.url) -}}
{{- fail "external: with mode=single everything runs in one pod; use mode=split to ask a judge or embedder of yours" -}}
{{- end -}}
{{- range $name := list "judge" "embedder" -}}
{{- $external := index $.Values.external $name -}}
{{- if and $external.url (not $external.model) -}}
{{- fail (printf "external.%s.model: name the model of the server at external.%s.url" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $role := $roles -}}
{{- include "medreward.checkRole" (list $ $name $role) -}}
{{- end -}}
{{- if and .Values.valkey.enabled (not .Values.redis.enabled) -}}
{{- fail "valkey.enabled: set redis.enabled as well, or nothing uses it" -}}
{{- end -}}
{{- if and .Values.valkey.enabled (or .Values.redis.host .Values.redis.tls.enabled (ne .Values.redis.mode "standalone")) -}}
{{- fail "valkey.enabled: it is a standalone server without TLS beside the service; leave redis.host, redis.tls and redis.mode out" -}}
{{- end -}}
{{- if and .Values.redis.enabled (not .Values.valkey.enabled) (not .Values.redis.host) -}}
{{- fail "redis.host: name your Redis, or set valkey.enabled" -}}
{{- end -}}
{{- if and .Values.redis.hosts (eq .Values.redis.mode "standalone") -}}
{{- fail "redis.hosts: only with redis.mode sentinel or cluster" -}}
{{- end -}}
{{- if and .Values.redis.tls.clientCertificate (not .Values.redis.tls.existingSecret) -}}
{{- fail "redis.tls.existingSecret: a client certificate comes out of it" -}}
{{- end -}}
{{- if and .Values.redis.sentinelPasswordKey (not .Values.redis.existingSecret) -}}
{{- fail "redis.existingSecret: the sentinels' password comes out of it" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: name at least one" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
{{- fail "gateway.parentRefs: name a gateway" -}}
{{- end -}}
{{- if and .Values.api.allowUnauthenticated .Values.ingress.enabled -}}
{{- fail "api.allowUnauthenticated: not together with ingress.enabled: anyone could score" -}}
{{- end -}}
{{- if and .Values.api.allowUnauthenticated .Values.gateway.enabled -}}
{{- fail "api.allowUnauthenticated: not together with gateway.enabled: anyone could score" -}}
{{- end -}}
{{- if and (not .Values.inner.existingSecret) (or (ne .Values.inner.sentKey "inner-key") (ne .Values.inner.acceptedKey "inner-key")) -}}
{{- fail "inner.existingSecret: the secret that is made has one key, inner-key; bring your own to name others" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.controllerPeers) -}}
{{- $outside := list -}}
{{- range .Values.networkPolicy.clients -}}
{{- if or (hasKey . "namespaceSelector") (hasKey . "ipBlock") -}}{{- $outside = append $outside . -}}{{- end -}}
{{- end -}}
{{- $way := "" -}}
{{- if ne .Values.service.type "ClusterIP" -}}{{- $way = printf "service.type=%s" .Values.service.type -}}{{- end -}}
{{- if .Values.gateway.enabled -}}{{- $way = "gateway.enabled" -}}{{- end -}}
{{- if .Values.ingress.enabled -}}{{- $way = "ingress.enabled" -}}{{- end -}}
{{- if and $way (not $outside) -}}
{{- fail (printf "networkPolicy.controllerPeers: with %s requests come from outside the namespace, and the policies let in none; name the controller's namespace, or the addresses of clients" $way) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.api.readyWhenDegraded (eq .Values.mode "single") -}}
{{- fail "api.readyWhenDegraded: with mode=single the engines are in the same pod, which is not ready without them" -}}
{{- end -}}
{{- if and .Values.api.recipes .Values.api.recipesConfigMap -}}
{{- fail "api.recipes: either these or api.recipesConfigMap" -}}
{{- end -}}
{{- end -}}

{{- define "medreward.checkRole" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $role := index . 2 -}}
{{- $at := printf "roles.%s" $name -}}
{{- $model := $role.model -}}
{{- $scaling := $role.autoscaling -}}
{{- $scales := ne $scaling.type "none" -}}
{{- $fewest := ternary (int $scaling.minReplicas) (int $role.replicas) $scales -}}
{{- $most := ternary (int $scaling.maxReplicas) (int $role.replicas) $scales -}}
{{- if and $scales (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling.minReplicas: more than maxReplicas" $at) -}}
{{- end -}}
{{- if and (eq $scaling.type "keda") (not $scaling.prometheusAddress) (not $scaling.triggers) -}}
{{- fail (printf "%s.autoscaling.prometheusAddress: KEDA asks Prometheus; tell it where, or give triggers of your own" $at) -}}
{{- end -}}
{{- if and (eq $scaling.type "keda") (lt (int $scaling.cooldownSeconds) (int $role.startup.timeoutSeconds)) -}}
{{- fail (printf "%s.autoscaling.cooldownSeconds: at least startup.timeoutSeconds, or pods go before they were of use" $at) -}}
{{- end -}}
{{- if and $role.pdb.enabled (lt $fewest 2) -}}
{{- fail (printf "%s.pdb.enabled: with fewer than 2 pods it would keep nodes from being drained" $at) -}}
{{- end -}}
{{- if and $role.pdb.enabled (ge (int $role.pdb.maxUnavailable) $fewest) -}}
{{- fail (printf "%s.pdb.maxUnavailable: fewer than the pods there are" $at) -}}
{{- end -}}
{{- if and (eq $role.strategy.type "RollingUpdate") (eq (int $role.strategy.maxSurge) 0) (eq (int $role.strategy.maxUnavailable) 0) -}}
{{- fail (printf "%s.strategy: maxSurge and maxUnavailable cannot both be 0" $at) -}}
{{- end -}}
{{- $start := include "medreward.longestStart" (list $root $name $role) -}}
{{- if and (gt (int $role.progressDeadlineSeconds) 0) (le (int $role.progressDeadlineSeconds) (add $start 60)) -}}
{{- fail (printf "%s.progressDeadlineSeconds: more than the %s seconds of the longest start (startup.timeoutSeconds, of every role for the one that clients reach, and as long again for a download) and a minute, or every rollout fails" $at $start) -}}
{{- end -}}
{{- $probes := $role.probes -}}
{{- if le (mul $probes.liveness.periodSeconds $probes.liveness.failureThreshold) (mul $probes.readiness.periodSeconds $probes.readiness.failureThreshold) -}}
{{- fail (printf "%s.probes.liveness: more patient than readiness, or a pod is ended that should only have had no requests" $at) -}}
{{- end -}}
{{- if and (eq $name "single") (gt $most 1) (not $root.Values.redis.enabled) -}}
{{- fail (printf "%s.replicas: several pods without redis.enabled each ask what the others have asked" $at) -}}
{{- end -}}
{{- if and $model.id (eq $model.source "hub") -}}
{{- if $root.Values.hub.offline -}}
{{- fail (printf "%s.model.source: nothing comes from a hub with hub.offline; use pvc or image" $at) -}}
{{- end -}}
{{- if and (not $model.allowMutableRevision) (not (regexMatch "^[0-9a-f]{40}$" $model.revision)) -}}
{{- fail (printf "%s.model.revision: the 40 digits of a commit, or set allowMutableRevision" $at) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $model.source "pvc") (not $model.path) -}}
{{- fail (printf "%s.model.path: the folder of the model on the claim" $at) -}}
{{- end -}}
{{- if and (eq $model.source "pvc") (ne $model.cache.type "existingClaim") -}}
{{- fail (printf "%s.model.cache.type: a model on a claim needs existingClaim" $at) -}}
{{- end -}}
{{- if and (eq $model.cache.type "existingClaim") (not $model.cache.existingClaim) -}}
{{- fail (printf "%s.model.cache.existingClaim: name the claim" $at) -}}
{{- end -}}
{{- if and (eq $model.cache.type "pvc") (gt $most 1) (not (has "ReadWriteMany" $model.cache.accessModes)) -}}
{{- fail (printf "%s.model.cache.accessModes: several pods share the claim only as ReadWriteMany" $at) -}}
{{- end -}}
{{- if and $model.predownload (not (include "medreward.usesHub" $role)) -}}
{{- fail (printf "%s.model.predownload: needs model.id and source=hub" $at) -}}
{{- end -}}
{{- if and (gt (int $role.gpu.count) 1) (not $role.shmSize) -}}
{{- fail (printf "%s.shmSize: several GPUs together need memory behind /dev/shm, such as 8Gi" $at) -}}
{{- end -}}
{{- if and $role.vllmArguments (ne $role.engine "vllm") -}}
{{- fail (printf "%s.vllmArguments: only with engine=vllm" $at) -}}
{{- end -}}
{{- if and (eq $name "api") (gt (int $role.gpu.count) 0) -}}
{{- fail "roles.api.gpu.count: an api holds no model" -}}
{{- end -}}
{{- end -}}
