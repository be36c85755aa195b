{{/*
The files that the programs read: what the user says in values, and what only the chart can know. Both lie in /etc/consilium, and
paths in them start there. Values that the chart owns are refused by the schema, so nothing is overwritten here.
*/}}

{{/* mesh.yaml, for the router. */}}
{{- define "consilium.meshFile" -}}
{{- $host := .Values.listenHost }}
{{- $mesh := deepCopy .Effective.mesh }}
{{- $_ := set $mesh "listen" (printf "%s:7600" $host) }}
{{- $_ := set $mesh "admin" (printf "%s:7601" $host) }}
{{- $_ := set $mesh "models" (include "consilium.modelsPath" .) }}
{{- if not (hasKey $mesh "reflection") }}
{{-   $_ := set $mesh "reflection" false }}
{{- end }}
{{- $registry := dict "etcd" (include "consilium.etcdClient" . | fromYaml) "table" "/var/lib/consilium/registry.table" }}
{{- $_ := set $mesh "registry" $registry }}
{{- if include "consilium.hasFeedback" . }}
{{- /* The journal has the pod's name, so its path is in the environment. */}}
{{-   $_ := set $mesh.feedback "key_file" "feedback/feedback.key" }}
{{- end }}
{{- $traces := include "consilium.traces" . | fromYaml }}
{{- with .Values.traces.callers }}
{{-   $_ := set $traces "callers" . }}
{{- end }}
{{- $_ := set $mesh "traces" $traces }}
{{- if .Values.tls.enabled }}
{{-   $tls := dict "certificate" "tls/tls.crt" "key" "tls/tls.key" "ca" "tls/ca.crt" }}
{{- /* Whatever an expert announces: no other certificate of this authority is one of an expert. */}}
{{-   $_ := set $tls "expert_name" (include "consilium.expertServerName" .) }}
{{-   if .Values.tls.clientCertificates }}
{{-     $_ := set $tls "client_ca" "tls/ca.crt" }}
{{-   end }}
{{-   $_ := set $mesh "tls" $tls }}
{{- end }}
{{- toYaml $mesh }}
{{- end }}

{{/* `data` of the routers' ConfigMap, as JSON: mesh.yaml, and the files that its gate reads. */}}
{{- define "consilium.routerFiles" -}}
{{- $data := deepCopy .Effective.meshFiles }}
{{- $_ := set $data "mesh.yaml" (include "consilium.meshFile" . | printf "%s\n") }}
{{- toJson $data }}
{{- end }}

{{/* instance.yaml, for every instance of an expert: what differs from pod to pod is in the environment. */}}
{{- define "consilium.instanceFile" -}}
{{- $root := .root }}
{{- $host := $root.Values.listenHost }}
{{- $instance := dict "mesh" $root.Effective.mesh.name "listen" (printf "%s:7700" $host) "admin" (printf "%s:7701" $host) }}
{{- $_ := set $instance "models" (include "consilium.modelsPath" $root) }}
{{- $_ := set $instance "track" .of.track }}
{{- $_ := set $instance "settle" .of.settle }}
{{- $_ := set $instance "grace" .of.grace }}
{{- $_ := set $instance "reflection" false }}
{{- with $root.Effective.mesh.max_message_bytes }}
{{-   $_ := set $instance "max_message_bytes" . }}
{{- end }}
{{- $_ := set $instance "registry" (dict "etcd" (include "consilium.etcdClient" $root | fromYaml)) }}
{{- $_ := set $instance "traces" (include "consilium.traces" $root | fromYaml) }}
{{- if $root.Values.tls.enabled }}
{{-   $_ := set $instance "server_name" (include "consilium.expertServerName" $root) }}
{{-   $_ := set $instance "tls" (dict "certificate" "tls/tls.crt" "key" "tls/tls.key" "client_ca" "tls/ca.crt") }}
{{- end }}
{{- toYaml $instance }}
{{- end }}

{{/* `data` of an expert's ConfigMap, as JSON: YAML would lose the last line's end. Its two files, and those that its settings name. */}}
{{- define "consilium.expertFiles" -}}
{{- $data := deepCopy (default dict .of.files) }}
{{- $settings := deepCopy .of.settings }}
{{- $_ := set $settings "name" (include "consilium.expertName" .) }}
{{- $_ := set $data "expert.yaml" (toYaml $settings | printf "%s\n") }}
{{- $_ := set $data "instance.yaml" (include "consilium.instanceFile" . | printf "%s\n") }}
{{- toJson $data }}
{{- end }}

{{/* `registry.etcd` of both files. */}}
{{- define "consilium.etcdClient" -}}
{{- $client := dict }}
{{- if .Values.etcd.enabled }}
{{-   $scheme := ternary "https" "http" .Values.tls.enabled }}
{{-   $endpoints := list }}
{{-   range $member := until (int .Values.etcd.replicas) }}
{{-     $host := include "consilium.etcdHost" (dict "root" $ "member" $member) }}
{{-     $endpoints = append $endpoints (printf "%s://%s:2379" $scheme $host) }}
{{-   end }}
{{-   $_ := set $client "endpoints" $endpoints }}
{{-   if .Values.tls.enabled }}
{{-     $_ := set $client "tls" (dict "ca" "tls/ca.crt" "certificate" "tls/tls.crt" "key" "tls/tls.key") }}
{{-   end }}
{{- else }}
{{-   $_ := set $client "endpoints" .Values.externalEtcd.endpoints }}
{{-   with .Values.externalEtcd.tls }}
{{-     if .existingSecret }}
{{-       $tls := dict "ca" "etcd/ca.crt" }}
{{-       if .clientCertificate }}
{{-         $_ := set $tls "certificate" "etcd/tls.crt" }}
{{-         $_ := set $tls "key" "etcd/tls.key" }}
{{-       end }}
{{-       with .serverName }}
{{-         $_ := set $tls "server_name" . }}
{{-       end }}
{{-       $_ := set $client "tls" $tls }}
{{-     end }}
{{-   end }}
{{- end }}
{{- toYaml $client }}
{{- end }}

{{- define "consilium.traces" -}}
ratio: {{ .Values.traces.ratio }}
{{- with .Values.traces.endpoint }}
endpoint: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Not empty where callers may say something about answers: then routers need a key in common. */}}
{{- define "consilium.hasFeedback" -}}
{{- if dig "feedback" "metrics" dict .Effective.mesh }}true{{ end }}
{{- end }}

{{/*
The volume at /etc/consilium: one for everything, so that nothing is mounted below a volume that cannot be written to, and a
certificate and its key change together. `config` is the ConfigMap, `secret` the Secret of certificates. What is secret is for the
group of the pod only: a router refuses keys that others can read.
*/}}
{{- define "consilium.configVolume" -}}
- name: config
  projected:
    defaultMode: 0444
    sources:
      - configMap:
          name: {{ .config }}
      {{- if .root.Values.tls.enabled }}
      {{- include "consilium.projectedCertificate" (dict "secret" .secret "under" "tls" "own" true) | nindent 6 }}
      {{- end }}
      {{- if not .root.Values.etcd.enabled }}
      {{- with .root.Values.externalEtcd.tls }}
      {{- if .existingSecret }}
      {{- $etcd := dict "secret" .existingSecret "under" "etcd" "own" .clientCertificate }}
      {{- include "consilium.projectedCertificate" $etcd | nindent 6 }}
      {{- end }}
      {{- end }}
      {{- end }}
      {{- with .feedbackSecret }}
      - secret:
          name: {{ . | quote }}
          items:
            - {key: feedback.key, path: feedback/feedback.key, mode: 0440}
      {{- end }}
{{- end }}

{{- define "consilium.projectedCertificate" -}}
- secret:
    name: {{ .secret | quote }}
    items:
      - {key: ca.crt, path: {{ .under }}/ca.crt, mode: 0440}
      {{- if .own }}
      - {key: tls.crt, path: {{ .under }}/tls.crt, mode: 0440}
      - {key: tls.key, path: {{ .under }}/tls.key, mode: 0440}
      {{- end }}
{{- end }}
