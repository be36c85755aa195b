{{/*
Where the models are in a pod. The argument is a map: root, and `needed`, the names of the models that this pod reads.
*/}}

{{- define "consilium.modelsPath" -}}
{{- ternary .Values.models.path "/models" (eq .Values.models.source "image") }}
{{- end }}

{{- define "consilium.modelsVolume" -}}
{{- $models := .root.Values.models }}
{{- if eq $models.source "claim" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ $models.claim.name | quote }}
    readOnly: true
{{- else if eq $models.source "fetch" }}
- name: models
  emptyDir:
    sizeLimit: {{ $models.fetch.sizeLimit | quote }}
{{- end }}
{{- end }}

{{- define "consilium.modelsMount" -}}
{{- $models := .root.Values.models }}
{{- if ne $models.source "image" }}
- name: models
  mountPath: /models
  {{- if eq $models.source "claim" }}
  {{- with $models.claim.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
  {{- end }}
  readOnly: true
{{- end }}
{{- end }}

{{/* Downloads what the pod needs before it starts, and nothing else. */}}
{{- define "consilium.modelsFetch" -}}
{{- $fetch := .root.Values.models.fetch }}
{{- if and (eq .root.Values.models.source "fetch") .needed }}
- name: models
  {{- include "consilium.containerImage" (dict "root" .root "image" $fetch.image) | nindent 2 }}
  args:
    - models
    - fetch
    - --into
    - /models
    {{- range $name := .needed }}
    {{- with get $fetch.models $name }}
    - {{ printf "%s=%s@sha256:%s" $name .url .sha256 | quote }}
    {{- end }}
    {{- end }}
  {{- with $fetch.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $fetch.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: models
      mountPath: /models
{{- end }}
{{- end }}
