{{/* What objects and images are called. */}}

{{- define "consilium.name" -}}
{{- default .Chart.Name .Values.nameOverride }}
{{- end }}

{{/* How the names of objects begin. Never cut: a name that is too long is a mistake, which "consilium.validate" names. */}}
{{- define "consilium.fullname" -}}
{{- if .Values.fullnameOverride }}
{{-   .Values.fullnameOverride }}
{{- else if contains (include "consilium.name" .) .Release.Name }}
{{-   .Release.Name }}
{{- else }}
{{-   printf "%s-%s" .Release.Name (include "consilium.name" .) }}
{{- end }}
{{- end }}

{{/* Of the objects of one part of the mesh: `part` is router, etcd, or the name of an expert. */}}
{{- define "consilium.nameOf" -}}
{{- printf "%s-%s" (include "consilium.fullname" .root) .part }}
{{- end }}

{{/*
Where an image is: `image` is a map of registry, repository, tag and digest. With a digest the tag is for readers only. `home` is
the registry of an image that is not ours, where values name none.
*/}}
{{- define "consilium.image" -}}
{{- $registry := coalesce .image.registry .root.Values.image.registry .home }}
{{- with $registry }}{{ . }}/{{ end }}
{{- .image.repository }}:{{ include "consilium.tag" . }}
{{- with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* What the mesh calls an expert: its key in the values, unless two entries are one expert, such as its canary. */}}
{{- define "consilium.expertName" -}}
{{- default .expert .of.name }}
{{- end }}

{{- define "consilium.tag" -}}
{{- default .root.Chart.AppVersion .image.tag }}
{{- end }}

{{/* The account of a part's pods: `account` is its map serviceAccount, `name` what the chart's own would be called. */}}
{{- define "consilium.serviceAccountName" -}}
{{- if .account.create }}
{{-   default .name .account.name }}
{{- else }}
{{-   default "default" .account.name }}
{{- end }}
{{- end }}

{{/* The name in the certificate of every expert, so that one more needs no other certificate. It is in no DNS. */}}
{{- define "consilium.expertServerName" -}}
{{- printf "%s-experts.%s.svc" (include "consilium.fullname" .) .Release.Namespace }}
{{- end }}

{{/* Where a member of the chart's etcd is: `member` counts from 0. */}}
{{- define "consilium.etcdHost" -}}
{{- $name := include "consilium.nameOf" (dict "root" .root "part" "etcd") }}
{{- printf "%s-%d.%s.%s.svc" $name (int .member) $name .root.Release.Namespace }}
{{- end }}

{{/* Whole seconds, rounded up, of a duration. */}}
{{- define "consilium.seconds" -}}
{{- div (add (include "consilium.milliseconds" . | int) 999) 1000 }}
{{- end }}

{{/* Of a duration as the programs read it: 500ms, 20s, 1m 30s, 1h. */}}
{{- define "consilium.milliseconds" -}}
{{- $milliseconds := 0 }}
{{- range regexFindAll "[0-9]+ *(ms|s|m|h)" (toString .) -1 }}
{{-   $unit := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+" .) }}
{{-   $milliseconds = add $milliseconds (mul (regexFind "[0-9]+" . | atoi) $unit) }}
{{- end }}
{{- $milliseconds }}
{{- end }}
