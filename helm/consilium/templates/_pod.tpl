{{/*
What the pods of router, experts and etcd have in common. The argument is a map:
  root, component, expert   as in _labels.tpl
  name                      of the object that the pod belongs to
  of                        the values of this part: router, one of .Effective.experts, or etcd
*/}}

{{/* Of `spec`: where the pod runs and as whom, and how long it may take to go. `.grace` is in seconds. */}}
{{- define "consilium.podPlace" -}}
{{- $values := .root.Values }}
automountServiceAccountToken: false
{{- /* Seven variables for each Service of the namespace, which nobody reads: the programs pass over CONSILIUM_PORT=tcp://…. */}}
enableServiceLinks: false
{{- $account := default (dict "create" true) .of.serviceAccount }}
serviceAccountName: {{ include "consilium.serviceAccountName" (dict "account" $account "name" .name) | quote }}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ .grace }}
{{- with .of.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- if .of.topologySpreadConstraints }}
  {{- toYaml .of.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- $etcd := eq .component "etcd" }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    {{- /* A node that goes may take no two of three members with it. */}}
    {{- $always := and $etcd (eq . "kubernetes.io/hostname") (gt (int $.of.replicas) 1) }}
    whenUnsatisfiable: {{ ternary "DoNotSchedule" "ScheduleAnyway" $always }}
    labelSelector:
      matchLabels:
        {{- include "consilium.selector" $ | nindent 8 }}
    {{- if not $etcd }}
    {{- /* Pods of one rollout are spread among themselves, without those that are about to go. A member of etcd has gone. */}}
    matchLabelKeys:
      - pod-template-hash
    {{- end }}
  {{- end }}
  {{- end }}
{{- end }}

{{/* `metadata` of a pod's template. `.checksum` is of its configuration, so that what changes there replaces the pods. */}}
{{- define "consilium.podMetadata" -}}
labels:
  {{- include "consilium.podLabels" . | nindent 2 }}
{{- $annotations := dict }}
{{- with .checksum }}
{{-   $_ := set $annotations "checksum/config" . }}
{{- end }}
{{- include "consilium.lay" (dict "under" $annotations "over" (default dict .of.podAnnotations)) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Of a container: image and security. */}}
{{- define "consilium.containerImage" -}}
image: {{ include "consilium.image" . | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- with .root.Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The list `.ours` of variables, with `.of.extraEnv` merged in: a variable may not be there twice. */}}
{{- define "consilium.env" -}}
env:
  {{- include "consilium.layNamed" (dict "under" .ours "over" (default list .of.extraEnv)) | nindent 2 }}
{{- with .of.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The image has no program that sleeps, so Kubernetes does it. */}}
{{- define "consilium.preStop" -}}
{{- if gt (int .of.preStopSeconds) 0 }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ int .of.preStopSeconds }}
{{- end }}
{{- end }}

{{/*
Not by readiness: whoever starts while etcd is away, or loads models for long, waits, and is not started again for it. The port is
open before models are loaded, so the program answers within moments or never.
*/}}
{{- define "consilium.startupProbe" -}}
startupProbe:
  httpGet: {path: /livez, port: admin, scheme: HTTP}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 30
{{- end }}

{{/* Readiness is what the program says of itself, liveness only that it still answers: it depends on neither etcd nor models. */}}
{{- define "consilium.probes" -}}
readinessProbe:
  grpc:
    port: {{ .admin }}
    service: ""
  periodSeconds: 2
  timeoutSeconds: 2
livenessProbe:
  httpGet:
    path: /livez
    port: admin
    scheme: HTTP
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}

{{/*
The text `.template` of a `spec.template` with `podTemplate.merge` merged over it, as YAML. Lists of things with names are
merged by name.
*/}}
{{- define "consilium.podTemplate" -}}
{{- $template := .template | fromYaml }}
{{- if hasKey $template "Error" }}
{{-   fail (printf "%s: the template of the pod is no YAML: %s" .name $template.Error) }}
{{- end }}
{{- include "consilium.layObject" (dict "under" $template "over" (default dict .of.podTemplate.merge)) }}
{{- toYaml $template }}
{{- end }}

{{- define "consilium.serviceAccount" -}}
{{- if .of.serviceAccount.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- $name := include "consilium.serviceAccountName" (dict "account" .of.serviceAccount "name" .name) }}
  {{- include "consilium.metadata" (merge (dict "name" $name "annotations" .of.serviceAccount.annotations) .) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}
{{- end }}
