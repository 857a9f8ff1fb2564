{{/* What pods and objects are called. */}}
{{- define "af.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: af-hub
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "af.objectLabels" -}}
{{ include "af.labels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "af.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Pods of the facility pass Pod Security "restricted". */}}
{{- define "af.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 100
fsGroup: 100
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "af.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The part of a pod that is the same in all of them. */}}
{{- define "af.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: {{ .token | default false }}
serviceAccountName: {{ .account | default .name }}
securityContext:
  {{- include "af.podSecurity" . | nindent 2 }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Secrets with mode 0600 in memory: the kubelet gives the files of a Secret to root and to a group, and our code takes nothing that
others can read. The volumes `keys`, `own` … are Secrets. */}}
{{- define "af.keysInit" -}}
- name: keys
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.images.pullPolicy }}
  command:
    - install
    - --mode=0600
    - --target-directory=/run/af-hub
    {{- range .files }}
    - {{ . }}
    {{- end }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  securityContext:
    {{- include "af.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: private, mountPath: /run/af-hub}
    - {name: keys, mountPath: /etc/af-hub/keys, readOnly: true}
    {{- range .mounts }}
    - {name: {{ . }}, mountPath: /etc/af-hub/{{ . }}, readOnly: true}
    {{- end }}
{{- end }}

{{- define "af.privateVolume" -}}
- name: private
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- end }}

{{- define "af.stateVolume" -}}
- name: state
  {{- if .values.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ .values.persistence.existingClaim | default .name }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}

{{/* Pods start anew when a number of the keys is raised. */}}
{{- define "af.keysChecksum" -}}
af-hub.org/keys: {{ dict "numbers" .Values.keys.numbers "kept" .Values.keys.kept "secret" .Values.keys.secret | toJson | sha256sum | trunc 16 }}
{{- end }}

{{- define "af.path" -}}
{{ (urlParse .Values.publicURL).path }}
{{- end }}

{{- define "af.host" -}}
{{ (urlParse .Values.publicURL).hostname }}
{{- end }}

{{- define "af.hubURL" -}}
http://hub.{{ .Release.Namespace }}.svc:8081
{{- end }}

{{- define "af.controllerURL" -}}
http://controller.{{ .Release.Namespace }}.svc:8500
{{- end }}

{{/* The policy: the admin's own, else the demo's. */}}
{{- define "af.facility" -}}
{{- .Values.facility.yaml | default (.Files.Get "files/facility.yaml") }}
{{- end }}

{{- define "af.facilityData" -}}
facility.yaml: {{ include "af.facility" . | quote }}
{{- range $name, $text := .Values.facility.files }}
{{ $name }}: {{ $text | quote }}
{{- end }}
{{- end }}

{{/* What every process that reads the policy is told. */}}
{{- define "af.facilityEnvironment" -}}
- {name: AF_PUBLIC_URL, value: {{ .Values.publicURL | quote }}}
- {name: AF_FACILITY_FILE, value: /etc/af-hub/facility/facility.yaml}
{{- range $name, $value := .Values.facility.environment }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* The hub's files: those of the demo, byte for byte, and what is of this installation. */}}
{{- define "af.hubFiles" -}}
jupyterhub_config.py: {{ .Files.Get "files/jupyterhub_config.py" | quote }}
chart_config.py: {{ .Files.Get "files/chart_config.py" | quote }}
traits.json: {{ include "af.traits" . | quote }}
extra_config.py: {{ .Values.hub.extraConfig | quote }}
{{- range $path, $_ := .Files.Glob "files/templates/*.html" }}
templates.{{ base $path }}: {{ $.Files.Get $path | quote }}
{{- end }}
{{- end }}

{{- define "af.traits" -}}
{{- $ours := dict
  "TraefikProxy" (dict "traefik_api_entrypoint" "hubapi")
  "ChoosingSpawner" (dict "controller_url" (printf "%s%sservices/af-controller/" (include "af.controllerURL" .) (include "af.path" .)))
  "AFSpawner" (dict "namespace" .Values.sessions.namespace "agent_image" .Values.images.agent)
-}}
{{- mergeOverwrite $ours (deepCopy .Values.hub.config) | toJson }}
{{- end }}

{{- define "af.claim" }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "af.objectLabels" . | nindent 4 }}
  {{- if .root.Values.keepOnUninstall }}
  annotations: {helm.sh/resource-policy: keep}
  {{- end }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .values.persistence.storageClass }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ .values.persistence.size }}
{{- end }}
