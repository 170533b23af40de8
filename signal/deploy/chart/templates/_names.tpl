{{- define "pairterm.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}-signal
{{- end -}}

{{- define "pairterm.selector" -}}
app.kubernetes.io/name: pairterm-signal
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pairterm.labels" -}}
{{ include "pairterm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The secret with the keys; empty for an open server. */}}
{{- define "pairterm.secret" -}}
{{- if and .Values.open (or .Values.authorizedKeys .Values.existingSecret) -}}
{{- fail "open serves everybody; leave out authorizedKeys and existingSecret" -}}
{{- else if and .Values.authorizedKeys .Values.existingSecret -}}
{{- fail "set one of authorizedKeys and existingSecret" -}}
{{- else if .Values.existingSecret -}}
{{- .Values.existingSecret -}}
{{- else if .Values.authorizedKeys -}}
{{- include "pairterm.name" . -}}
{{- else if not .Values.open -}}
{{- fail "name who may host, in authorizedKeys or existingSecret, or set open: true to serve everybody" -}}
{{- end -}}
{{- end -}}
