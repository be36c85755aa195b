{{/*
Labels and annotations. The argument is a map:
  root       the root of the template
  component  router, expert, etcd or test; left out for what belongs to the whole mesh
  expert     the name of the expert, for what belongs to one
*/}}

{{/*
What Services, budgets and policies find pods by. Never changes in the life of a release. In quotes, because `true` is a name.
*/}}
{{- define "consilium.selector" -}}
app.kubernetes.io/name: {{ include "consilium.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .expert }}
consilium.dev/expert: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Of an object. */}}
{{- define "consilium.labels" -}}
{{- $labels := deepCopy (default dict .root.Values.commonLabels) }}
{{- include "consilium.lay" (dict "under" $labels "over" (include "consilium.selector" . | fromYaml)) }}
{{- $_ := set $labels "app.kubernetes.io/part-of" (toString .root.Effective.mesh.name) }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $labels "app.kubernetes.io/version" (include "consilium.versionLabel" .) }}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- toYaml $labels }}
{{- end }}

{{/* Of a pod: nothing that changes with the chart's version, because that would replace every pod. `of` has podLabels. */}}
{{- define "consilium.podLabels" -}}
{{- $labels := deepCopy (default dict .root.Values.commonLabels) }}
{{- include "consilium.lay" (dict "under" $labels "over" (default dict .of.podLabels)) }}
{{- include "consilium.lay" (dict "under" $labels "over" (include "consilium.selector" . | fromYaml)) }}
{{- $_ := set $labels "app.kubernetes.io/part-of" (toString .root.Effective.mesh.name) }}
{{- $_ := set $labels "app.kubernetes.io/version" (include "consilium.versionLabel" .) }}
{{- toYaml $labels }}
{{- end }}

{{/* What runs: the tag of the image of `of`, where there is one. A tag may be longer than a label. */}}
{{- define "consilium.versionLabel" -}}
{{- $version := .root.Chart.AppVersion }}
{{- with dig "of" "image" dict . }}
{{-   $version = include "consilium.tag" (dict "root" $.root "image" .) }}
{{- end }}
{{- $version | trunc 63 | trimAll "._-" }}
{{- end }}

{{/* `metadata` of an object called `name`, with `annotations` of its own. */}}
{{- define "consilium.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "consilium.labels" . | nindent 2 }}
{{- $annotations := deepCopy (default dict .root.Values.commonAnnotations) }}
{{- include "consilium.lay" (dict "under" $annotations "over" (default dict .annotations)) }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
