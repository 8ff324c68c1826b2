{{/* What an installation is called: the release, unless it is told otherwise. */}}
{{- define "drover.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "drover" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-drover" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide objects carry the namespace too: two releases of one name may stand in two namespaces. */}}
{{- define "drover.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "drover.fullname" .) -}}
{{- end -}}

{{- define "drover.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "drover.fullname" .) -}}
{{- end -}}

{{/* Never changed, for a Deployment's selector cannot be. */}}
{{- define "drover.selectorLabels" -}}
app.kubernetes.io/name: drover
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "drover.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: drover
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: drover
{{- end -}}

{{- define "drover.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The operator's configuration file. What is left out here is left out there, so that the operator's own default holds. */}}
{{- define "drover.config" -}}
{{- $realm := required "realm is required: name this installation, for example `--set realm=production`. Every machine it launches is tagged with the name, and another installation of that name would take them over." .Values.realm -}}
{{- $bucket := required "bucket is required: name the S3 bucket of the records, for example `--set bucket=example-drover`. It has to be versioned and in the machines' Region." .Values.bucket -}}
{{- $config := dict "realm" $realm "bucket" $bucket "leaseSeconds" .Values.leaseSeconds -}}
{{- with .Values.prefix }}{{ $_ := set $config "prefix" . }}{{ end -}}
{{- with .Values.defaults.machine }}{{ $_ := set $config "defaults" (dict "machine" .) }}{{ end -}}
{{- with .Values.allow }}{{ $_ := set $config "allow" . }}{{ end -}}
{{- if ne nil .Values.limits.maxMachines }}{{ $_ := set $config "limits" (dict "maxMachines" .Values.limits.maxMachines) }}{{ end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What the operator does in the namespaces that it watches, and nothing else. Secrets are never listed or watched: each is asked for by its name. */}}
{{- define "drover.rules" -}}
- apiGroups: [drover.dev]
  resources: [mysqlreplicasets]
  verbs: [list, watch, patch]
- apiGroups: [drover.dev]
  resources: [mysqlreplicasets/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch, get, create, patch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch, get, create, patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* Of every container here. */}}
{{- define "drover.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
{{- end -}}

{{/* Of every Pod here. A number of ten digits would be written with an exponent. */}}
{{- define "drover.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}
