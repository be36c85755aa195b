{{/* The objects of one expert. The argument is as in _pod.tpl. */}}
{{- define "consilium.expert" -}}
{{- $root := .root }}
{{- $files := include "consilium.expertFiles" . | fromJson }}
{{- /* Knowledge is read again when its file changes: new passages restart nobody. */}}
{{- $_ := set . "checksum" (omit $files (dig "task" "knowledge" "" .of.settings) | toYaml | sha256sum) }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "consilium.metadata" . | nindent 2 }}
data:
  {{- toYaml $files | nindent 2 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "consilium.metadata" . | nindent 2 }}
spec:
  {{- with include "consilium.replicas" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "consilium.strategy" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "consilium.selector" . | nindent 6 }}
  template:
    {{- include "consilium.podTemplate" (merge (dict "template" (include "consilium.expertPod" .)) .) | nindent 4 }}
---
{{- /* Routers do not need it, they read etcd: for grpcurl, for other clients, and for what looks for Services. */}}
apiVersion: v1
kind: Service
metadata:
  {{- include "consilium.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "consilium.selector" . | nindent 4 }}
  ports:
    - name: grpc
      port: 7700
      targetPort: grpc
      protocol: TCP
{{- include "consilium.serviceAccount" . }}
{{- include "consilium.autoscaler" . }}
{{- include "consilium.disruptionBudget" . }}
{{- end }}

{{- define "consilium.expertPod" -}}
{{- $root := .root }}
{{- $zone := dict "fieldRef" (dict "fieldPath" "metadata.labels['topology.kubernetes.io/zone']") }}
{{- $env := list (dict "name" "CONSILIUM_LOG" "value" .of.logLevel) }}
{{- /* The image says where its models are, and a variable beats the file. */}}
{{- $env = append $env (dict "name" "CONSILIUM_MODELS" "value" (include "consilium.modelsPath" $root)) }}
{{- $env = append $env (dict "name" "CONSILIUM_ANNOUNCE" "valueFrom" (dict "fieldRef" (dict "fieldPath" "status.podIP"))) }}
{{- $env = append $env (dict "name" "CONSILIUM_INSTANCE" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.name"))) }}
{{- /*
A pod has this label from Kubernetes 1.35 on; before, the zone is empty. Settings in variables are read as YAML, and some clouds
call their zones 0, 1 and 2: hence the quotes.
*/}}
{{- $env = append $env (dict "name" "POD_ZONE" "valueFrom" $zone) }}
{{- $env = append $env (dict "name" "CONSILIUM_ZONE" "value" "\"$(POD_ZONE)\"") }}
{{- $models := dict "root" $root "needed" (include "consilium.modelsOf" .of | fromYamlArray) }}
metadata:
  {{- include "consilium.podMetadata" . | nindent 2 }}
spec:
  {{- /* 10 s more than the drain takes: for the models to end and the last traces to leave. */}}
  {{- $seconds := add (int .of.preStopSeconds) (include "consilium.seconds" .of.grace | int) 10 }}
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
    - name: expert
      {{- include "consilium.containerImage" (dict "root" $root "image" .of.image) | nindent 6 }}
      args:
        - /etc/consilium/expert.yaml
        - --config
        - /etc/consilium/instance.yaml
        {{- with .of.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "consilium.env" (dict "of" .of "ours" $env) | nindent 6 }}
      ports:
        - {name: grpc, containerPort: 7700, protocol: TCP}
        - {name: admin, containerPort: 7701, protocol: TCP}
      {{- include "consilium.startupProbe" . | nindent 6 }}
      {{- include "consilium.probes" (dict "admin" 7701) | nindent 6 }}
      {{- with include "consilium.preStop" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .of.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: config, mountPath: /etc/consilium, readOnly: true}
        - {name: tmp, mountPath: /tmp}
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
    {{- $secret := include "consilium.tlsSecret" (dict "root" $root "part" "expert") }}
    {{- include "consilium.configVolume" (dict "root" $root "config" .name "secret" $secret) | nindent 4 }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- with include "consilium.modelsVolume" $models | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .of.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The models that an expert reads from the common place, as a YAML list. A repository comes in a volume of its own. */}}
{{- define "consilium.modelsOf" -}}
{{- $task := default dict .settings.task }}
{{- if and $task.model (not $task.repository) }}
- {{ $task.model | quote }}
{{- end }}
{{- end }}
