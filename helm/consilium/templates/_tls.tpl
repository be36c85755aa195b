{{/*
Certificates of router, experts and etcd. Each has one, shows it as server and as client, and believes the authority beside it.
*/}}

{{/* The Secret with tls.crt, tls.key and ca.crt of `part`: router, expert or etcd. */}}
{{- define "consilium.tlsSecret" -}}
{{- $ours := printf "%s-tls" (include "consilium.nameOf" .) }}
{{- default $ours (get .root.Values.tls.existingSecrets .part) }}
{{- end }}

{{/* The parts that have a certificate, as a YAML list. */}}
{{- define "consilium.tlsParts" -}}
- router
- expert
{{- if .Values.etcd.enabled }}
- etcd
{{- end }}
{{- end }}

{{/* The DNS names in the certificate of `part`, as a YAML list. */}}
{{- define "consilium.tlsNames" -}}
{{- $root := .root }}
{{- $namespace := $root.Release.Namespace }}
{{- if eq .part "router" }}
{{-   $name := include "consilium.nameOf" . }}
{{-   range $service := list $name (printf "%s-headless" $name) }}
- {{ $service }}
- {{ $service }}.{{ $namespace }}
- {{ $service }}.{{ $namespace }}.svc
- {{ $service }}.{{ $namespace }}.svc.cluster.local
{{-   end }}
{{- /* For kubectl port-forward. */}}
- localhost
{{-   range $root.Values.tls.routerNames }}
- {{ . | quote }}
{{-   end }}
{{- else if eq .part "expert" }}
{{- /* One name for all, whatever experts there are: whoever calls an expert by its Service asks for this name. */}}
- {{ include "consilium.expertServerName" $root }}
{{- else }}
{{- /* A member looks up who connects to it: forward by these names, backward by the last, which has the cluster's domain. */}}
{{-   range $member := until (int $root.Values.etcd.replicas) }}
- {{ include "consilium.etcdHost" (dict "root" $root "member" $member) }}
{{-   end }}
- "*.{{ include "consilium.nameOf" . }}.{{ $namespace }}.svc"
- "*.{{ include "consilium.nameOf" . }}.{{ $namespace }}.svc.cluster.local"
- localhost
{{- end }}
{{- end }}
