{{/* What the parts of a release are called: foyer, or RELEASE-foyer. */}}
{{- define "foyer.name" -}}
{{- if contains "foyer" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-foyer" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* What pods are selected by. It never changes. */}}
{{- define "foyer.selector" -}}
app.kubernetes.io/name: foyer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "foyer.labels" -}}
{{ include "foyer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Whether there is more than one node. */}}
{{- define "foyer.many" -}}
{{- if ne .Values.cluster.mode "off" }}yes{{ end }}
{{- end }}
