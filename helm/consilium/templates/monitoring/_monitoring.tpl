{{/* What dashboards, monitors and rules have in common. */}}

{{/* `metadata` as "consilium.metadata" has it, with `labels` of its own: operators and sidecars look for what they are told to. */}}
{{- define "consilium.monitoring.metadata" -}}
{{- $metadata := include "consilium.metadata" . | fromYaml }}
{{- include "consilium.lay" (dict "under" $metadata.labels "over" (default dict .labels)) }}
{{- toYaml $metadata }}
{{- end }}

{{/*
A PodMonitor of the pods of `component` and, where there is one, `expert`. The job is called after the part, the instance after
the pod, which is also how routers call an expert's instance.
*/}}
{{- define "consilium.podMonitor" -}}
{{- $values := .root.Values.metrics.podMonitor -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  {{- include "consilium.monitoring.metadata" (set . "labels" $values.labels) | nindent 2 }}
spec:
  jobLabel: {{ ternary "consilium.dev/expert" "app.kubernetes.io/component" (hasKey . "expert") }}
  selector:
    matchLabels:
      {{- include "consilium.selector" . | nindent 6 }}
  podMetricsEndpoints:
    - port: {{ .port }}
      path: /metrics
      interval: {{ $values.interval }}
      relabelings:
        - action: replace
          sourceLabels: [__meta_kubernetes_pod_name]
          targetLabel: instance
{{- end }}
