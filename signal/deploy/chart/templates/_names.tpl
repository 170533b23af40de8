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

{{/* What speaks against the values about replicas. */}}
{{- define "pairterm.replicas" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.nats.url) -}}
{{- fail "more than one replica takes NATS, over which they find each other's rooms: set nats.url" -}}
{{- end -}}
{{- with .Values.nats -}}
{{- $files := coalesce .creds .nkey .password .ca .cert .key .secret -}}
{{- if and (not .url) (or .existingSecret .user $files) -}}
{{- fail "nats.url is missing" -}}
{{- else if ne (empty .existingSecret) (empty $files) -}}
{{- fail "nats.existingSecret and the keys in it (nats.creds, nkey, password, ca, cert, key, secret) go together" -}}
{{- else if ne (empty .user) (empty .password) -}}
{{- fail "nats.user and nats.password go together" -}}
{{- else if ne (empty .cert) (empty .key) -}}
{{- fail "nats.cert and nats.key go together" -}}
{{- end -}}
{{- end -}}
{{- end -}}
