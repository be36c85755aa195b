{{/* The pod of a router. The argument is as in _pod.tpl, with `checksum`. */}}
{{- define "consilium.routerPod" -}}
{{- $root := .root }}
{{- $grace := include "consilium.seconds" (default "20s" $root.Effective.mesh.grace) }}
{{- $journal := and $root.Values.router.feedback.journalClaim (include "consilium.hasFeedback" $root) }}
{{- $env := list (dict "name" "CONSILIUM_LOG" "value" .of.logLevel) }}
{{- /* The image says where its models are, and a variable beats the file. */}}
{{- $env = append $env (dict "name" "CONSILIUM_MODELS" "value" (include "consilium.modelsPath" $root)) }}
{{- if $journal }}
{{-   $env = append $env (dict "name" "POD_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.name"))) }}
{{-   $file := "/var/lib/consilium-journal/$(POD_NAME).jsonl" }}
{{-   $env = append $env (dict "name" "CONSILIUM_FEEDBACK__JOURNAL" "value" $file) }}
{{- end }}
{{- $models := dict "root" $root "needed" (list $root.Effective.mesh.gate.encoder) }}
metadata:
  {{- include "consilium.podMetadata" . | nindent 2 }}
spec:
  {{- /* 10 s more than the drain takes: for the model to end and the last traces to leave. */}}
  {{- $seconds := add (int .of.preStopSeconds) (int $grace) 10 }}
  {{- include "consilium.podPlace" (merge (dict "grace" $seconds) .) | nindent 2 }}
  {{- $fetch := include "consilium.modelsFetch" $models | trim }}
  {{- if or $fetch .of.extraInitContainers }}
  initContainers:
    {{- with $fetch }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .of.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: router
      {{- include "consilium.containerImage" (dict "root" $root "image" .of.image) | nindent 6 }}
      args:
        - /etc/consilium/mesh.yaml
        {{- with .of.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "consilium.env" (dict "of" .of "ours" $env) | nindent 6 }}
      ports:
        - {name: grpc, containerPort: 7600, protocol: TCP}
        - {name: admin, containerPort: 7601, protocol: TCP}
      {{- include "consilium.startupProbe" . | nindent 6 }}
      {{- include "consilium.probes" (dict "admin" 7601) | nindent 6 }}
      {{- with include "consilium.preStop" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .of.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: config, mountPath: /etc/consilium, readOnly: true}
        - {name: state, mountPath: /var/lib/consilium}
        - {name: tmp, mountPath: /tmp}
        {{- if $journal }}
        - {name: journal, mountPath: /var/lib/consilium-journal}
        {{- end }}
        {{- with include "consilium.modelsMount" $models | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .of.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .of.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- $secrets := dict "secret" (include "consilium.tlsSecret" (dict "root" $root "part" "router")) }}
    {{- if include "consilium.hasFeedback" $root }}
    {{-   $_ := set $secrets "feedbackSecret" (include "consilium.feedbackSecret" $root) }}
    {{- end }}
    {{- include "consilium.configVolume" (merge (dict "root" $root "config" .name) $secrets) | nindent 4 }}
    {{- /* What the router knew last: it outlives the container, not the pod. */}}
    - name: state
      emptyDir: {sizeLimit: 64Mi}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if $journal }}
    - name: journal
      persistentVolumeClaim: {claimName: {{ $root.Values.router.feedback.journalClaim | quote }}}
    {{- end }}
    {{- with include "consilium.modelsVolume" $models | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .of.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "consilium.feedbackSecret" -}}
{{- default (include "consilium.nameOf" (dict "root" . "part" "feedback")) .Values.router.feedback.existingSecret }}
{{- end }}
