{{/* What can be wrong with the mesh, with one expert, and with how many pods there are. As in _validate.tpl. */}}

{{- define "consilium.validateMesh" -}}
{{- $mesh := .root.Effective.mesh }}
{{- if not $mesh.name }}
{{-   include "consilium.mistake" (list .found "mesh.name" "missing" "what the mesh is called, or example: clinic") }}
{{- end }}
{{- if not (dig "gate" "encoder" "" $mesh) }}
{{-   $expected := "the name of a model that turns texts into vectors, for example minilm-l6" }}
{{-   include "consilium.mistake" (list .found "mesh.gate.encoder" "missing" $expected) }}
{{- end }}
{{- if not .root.Effective.experts }}
{{-   include "consilium.mistake" (list .found "experts" "none that is enabled" "at least one expert, or example: clinic") }}
{{- end }}
{{- if and .root.Values.router.feedback.journalClaim (not (include "consilium.hasFeedback" .root)) }}
{{-   $problem := "given, but mesh.feedback.metrics is empty" }}
{{-   include "consilium.mistake" (list .found "router.feedback.journalClaim" $problem "metrics to speak of, or no claim") }}
{{- end }}
{{- include "consilium.validateDuration" (list .found "mesh.grace" (default "20s" $mesh.grace)) }}
{{- end }}

{{- define "consilium.validateExpert" -}}
{{- $key := printf "experts.%s" .name }}
{{- $settings := default dict .of.settings }}
{{- if has .name (list "router" "router-headless" "etcd" "expert" "experts" "test") }}
{{-   include "consilium.mistake" (list .found $key "the chart has objects of this name" "another name") }}
{{- end }}
{{- if eq (include "consilium.expertName" (dict "expert" .name "of" .of)) (toString .root.Effective.mesh.name) }}
{{-   $expected := "another name: clients address mesh and experts by name" }}
{{-   include "consilium.mistake" (list .found $key "also the name of the mesh" $expected) }}
{{- end }}
{{- if not $settings }}
{{-   $expected := "its expert.yaml: version, summary, task, slo" }}
{{-   include "consilium.mistake" (list .found (printf "%s.settings" $key) "missing" $expected) }}
{{- end }}
{{- if hasKey $settings "name" }}
{{-   $expected := "nothing here: the key below experts is the name, or `name` beside settings" }}
{{-   include "consilium.mistake" (list .found (printf "%s.settings.name" $key) "given" $expected) }}
{{- end }}
{{- $bytes := 0 }}
{{- range $file, $content := default dict .of.files }}
{{-   $bytes = add $bytes (len $file) (len (toString $content)) }}
{{-   if has $file (list "expert.yaml" "instance.yaml") }}
{{-     $at := printf "%s.files[%q]" $key $file }}
{{-     include "consilium.mistake" (list $.found $at "the chart makes this file" "settings instead") }}
{{-   end }}
{{- end }}
{{- if gt (int64 $bytes) (int64 921600) }}
{{-   $problem := printf "%d KiB" (div $bytes 1024) }}
{{-   $expected := "at most 900 KiB together; larger ones in a volume, by extraVolumes" }}
{{-   include "consilium.mistake" (list .found (printf "%s.files" $key) $problem $expected) }}
{{- end }}
{{- range $name := list "settle" "grace" }}
{{-   include "consilium.validateDuration" (list $.found (printf "%s.%s" $key $name) (get $.of $name)) }}
{{- end }}
{{- include "consilium.validateScaling" (dict "found" .found "key" $key "of" .of) }}
{{- end }}

{{/* The argument is a list: where mistakes are collected, the key, the value. */}}
{{- define "consilium.validateDuration" -}}
{{- $value := toString (index . 2) }}
{{- if not (regexMatch "^([0-9]+ *(ms|s|m|h) *)+$" $value) }}
{{-   include "consilium.mistake" (list (index . 0) (index . 1) (printf "%q" $value) "a duration, for example 20s") }}
{{- end }}
{{- end }}

{{- define "consilium.validateScaling" -}}
{{- $by := .of.autoscaling }}
{{- $key := printf "%s.autoscaling" .key }}
{{- if $by.enabled }}
{{-   $least := int $by.minReplicas }}
{{-   if gt $least (int $by.maxReplicas) }}
{{-     $problem := printf "%d, and maxReplicas is %d" $least (int $by.maxReplicas) }}
{{-     include "consilium.mistake" (list .found (printf "%s.minReplicas" $key) $problem "at most maxReplicas") }}
{{-   end }}
{{-   if eq (default "hpa" $by.kind) "keda" }}
{{-     if not $by.keda.serverAddress }}
{{-       $expected := "where Prometheus is, for example http://prometheus.monitoring:9090" }}
{{-       include "consilium.mistake" (list .found (printf "%s.keda.serverAddress" $key) "empty" $expected) }}
{{-     end }}
{{-   else }}
{{-     if lt $least 1 }}
{{-       include "consilium.mistake" (list .found (printf "%s.minReplicas" $key) "0" "at least 1: only keda scales to none") }}
{{-     end }}
{{-     if not (or $by.targetCPUUtilizationPercentage $by.metrics) }}
{{-       $problem := "0, and there are no other metrics" }}
{{-       $expected := "a percentage, or metrics" }}
{{-       include "consilium.mistake" (list .found (printf "%s.targetCPUUtilizationPercentage" $key) $problem $expected) }}
{{-     end }}
{{-   end }}
{{- end }}
{{- end }}
