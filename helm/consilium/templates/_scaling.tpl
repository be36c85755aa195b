{{/*
How many pods there are: autoscalers and disruption budgets. The argument is as in _pod.tpl; `kind` is Deployment or StatefulSet.
*/}}

{{- define "consilium.disruptionBudget" -}}
{{- if .of.pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "consilium.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .of.pdb.maxUnavailable }}
  {{- if ne .component "etcd" }}
  {{- /* A pod that is not ready serves nobody; it shall not keep a node from being drained. */}}
  unhealthyPodEvictionPolicy: AlwaysAllow
  {{- end }}
  selector:
    matchLabels:
      {{- include "consilium.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* `replicas` of a Deployment: whoever scales it says so, and nobody else. */}}
{{- define "consilium.replicas" -}}
{{- if not .of.autoscaling.enabled }}
replicas: {{ int .of.replicas }}
{{- end }}
{{- end }}

{{- define "consilium.strategy" -}}
{{- $strategy := deepCopy (default dict .of.strategy) }}
{{- if eq (toString $strategy.type) "Recreate" }}
{{-   $_ := unset $strategy "rollingUpdate" }}
{{- end }}
{{- with $strategy }}
strategy:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "consilium.autoscaler" -}}
{{- if .of.autoscaling.enabled }}
{{-   if eq (default "hpa" .of.autoscaling.kind) "keda" }}
{{-     include "consilium.scaledObject" . }}
{{-   else }}
{{-     include "consilium.horizontalPodAutoscaler" . }}
{{-   end }}
{{- end }}
{{- end }}

{{- define "consilium.horizontalPodAutoscaler" -}}
{{- $by := .of.autoscaling }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "consilium.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicas: {{ int $by.minReplicas }}
  maxReplicas: {{ int $by.maxReplicas }}
  metrics:
    {{- if $by.targetCPUUtilizationPercentage }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int $by.targetCPUUtilizationPercentage }}
    {{- end }}
    {{- with $by.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $by.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/*
The sum over all routers of what runs in the expert's instances; KEDA divides it by the number of pods. While Prometheus does not
answer there are as many as without autoscaling, but no fewer than the least.

Where several entries are one expert, such as what runs and its canary, each counts its own instances: an instance is called as its
pod, which is the Deployment's name, one part of the ReplicaSet and one of the pod. Kubernetes cuts long names, and then it is one.
*/}}
{{- define "consilium.scaledObject" -}}
{{- $by := .of.autoscaling }}
{{- $labels := list (printf "expert=%q" (include "consilium.expertName" .)) }}
{{- if .root.Values.metrics.prometheusRule.byNamespace }}
{{-   $labels = append $labels (printf "namespace=%q" .root.Release.Namespace) }}
{{- end }}
{{- $entries := 0 }}
{{- range $name, $of := .root.Effective.experts }}
{{-   if eq (include "consilium.expertName" (dict "expert" $name "of" $of)) (include "consilium.expertName" $) }}
{{-     $entries = add1 $entries }}
{{-   end }}
{{- end }}
{{- if gt (int $entries) 1 }}
{{-   $labels = append $labels (printf "expert_instance=~%q" (printf "%s(-[^-]+){1,2}" .name)) }}
{{- end }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "consilium.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name }}
  minReplicaCount: {{ int $by.minReplicas }}
  maxReplicaCount: {{ int $by.maxReplicas }}
  pollingInterval: {{ int $by.keda.pollingInterval }}
  cooldownPeriod: {{ int $by.keda.cooldownPeriod }}
  fallback:
    failureThreshold: 3
    replicas: {{ max (int .of.replicas) (int $by.minReplicas) | min (int $by.maxReplicas) }}
  {{- with $by.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ $by.keda.serverAddress | quote }}
        query: {{ printf "sum(consilium_router_instance_in_flight{%s})" (join "," $labels) | squote }}
        threshold: {{ $by.keda.targetInFlight | toString | quote }}
    {{- with $by.keda.triggers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
