{{/* The name that resources begin with. */}}
{{- define "medreward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "medreward.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "medreward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "medreward.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The roles that run here, as YAML: name and values. */}}
{{- define "medreward.roles" -}}
{{- if eq .Values.mode "single" }}
single: {{ .Values.roles.single | toYaml | nindent 2 }}
{{- else }}
api: {{ .Values.roles.api | toYaml | nindent 2 }}
{{- if not .Values.external.judge.url }}
judge: {{ .Values.roles.judge | toYaml | nindent 2 }}
{{- end }}
{{- if not .Values.external.embedder.url }}
embed: {{ .Values.roles.embed | toYaml | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The role that clients reach. */}}
{{- define "medreward.front" -}}
{{- ternary "single" "api" (eq .Values.mode "single") -}}
{{- end -}}

{{/* An image: list of the root and the values of the image. */}}
{{- define "medreward.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- if $root.Values.imageRegistry -}}{{- $name = printf "%s/%s" ($root.Values.imageRegistry | trimSuffix "/") $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "medreward.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "medreward.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "medreward.innerSecret" -}}
{{- default (printf "%s-inner" (include "medreward.fullname" .)) .Values.inner.existingSecret -}}
{{- end -}}

{{- define "medreward.apiSecret" -}}
{{- default (printf "%s-api" (include "medreward.fullname" .)) .Values.api.existingSecret -}}
{{- end -}}

{{- define "medreward.apiSecretKey" -}}
{{- ternary .Values.api.existingSecretKey "api-keys" (ne .Values.api.existingSecret "") -}}
{{- end -}}

{{- define "medreward.redisSecret" -}}
{{- if .Values.valkey.enabled -}}
{{- printf "%s-valkey" (include "medreward.fullname" .) -}}
{{- else -}}
{{- .Values.redis.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "medreward.redisSecretKey" -}}
{{- ternary "password" .Values.redis.existingSecretKey .Values.valkey.enabled -}}
{{- end -}}

{{- define "medreward.recipesConfigMap" -}}
{{- default (printf "%s-recipes" (include "medreward.fullname" .)) .Values.api.recipesConfigMap -}}
{{- end -}}

{{- define "medreward.hasRecipes" -}}
{{- if or .Values.api.recipes .Values.api.recipesConfigMap -}}yes{{- end -}}
{{- end -}}

{{/* The name of a role's cache claim: list of the root, the role's name and values. */}}
{{- define "medreward.claim" -}}
{{- $root := index . 0 -}}{{- $role := index . 1 -}}{{- $cache := (index . 2).model.cache -}}
{{- if eq $cache.type "existingClaim" -}}
{{- $cache.existingClaim -}}
{{- else -}}
{{- printf "%s-%s-cache" (include "medreward.fullname" $root) $role -}}
{{- end -}}
{{- end -}}

{{/* The address to listen on: IPv6's takes IPv4 as well, but is missing on nodes without IPv6. */}}
{{- define "medreward.host" -}}
{{- $isDual := has .Values.service.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack") -}}
{{- ternary "::" "0.0.0.0" (or $isDual (has "IPv6" .Values.service.ipFamilies)) -}}
{{- end -}}

{{/* The IP families of a service. */}}
{{- define "medreward.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Which series are this release's, for alerts. */}}
{{- define "medreward.metricsSelector" -}}
namespace="{{ .Release.Namespace }}",service=~"{{ include "medreward.fullname" . }}-(single|api|judge|embed)-metrics"
{{- end -}}

{{- define "medreward.grace" -}}
{{- add (int .Values.drain.delaySeconds) (int .Values.drain.seconds) 10 -}}
{{- end -}}
