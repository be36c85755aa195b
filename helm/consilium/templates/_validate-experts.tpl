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
{{- $fallback := dig "gate" "fallback" "" $mesh }}
{{- $names := list }}
{{- range $name, $of := .root.Effective.experts }}
{{-   $names = append $names (include "consilium.expertName" (dict "expert" $name "of" $of)) }}
{{- end }}
{{- if and $fallback $names (not (has $fallback $names)) }}
{{-   $expected := printf "one of %s, or nothing" (join ", " (uniq $names | sortAlpha)) }}
{{-   include "consilium.mistake" (list .found "mesh.gate.fallback" (printf "there is no expert %q" $fallback) $expected) }}
{{- end }}
{{- $settle := default "2s" $mesh.settle }}
{{- include "consilium.validateGrace" (list .found "mesh" $settle (default "20s" $mesh.grace) 1) }}
{{- end }}

{{/*
Of the mesh and all experts together. Helm keeps values and objects, and so each file twice, in a Secret of at most 1 MiB, by gzip and in base64:
words that come in no order take more than half of what they are.
*/}}
{{- define "consilium.validateFiles" -}}
{{- if hasKey .root.Effective.meshFiles "mesh.yaml" }}
{{-   include "consilium.mistake" (list .found "meshFiles[\"mesh.yaml\"]" "the chart makes this file" "mesh instead") }}
{{- end }}
{{- $all := dict "meshFiles" .root.Effective.meshFiles }}
{{- range $name, $of := .root.Effective.experts }}
{{-   $_ := set $all (printf "experts.%s.files" $name) (default dict $of.files) }}
{{- end }}
{{- $bytes := 0 }}
{{- $largest := "" }}
{{- $most := 0 }}
{{- range $key, $files := $all }}
{{-   $own := 0 }}
{{-   range $file, $content := $files }}
{{-     $own = add $own (len $file) (len (toString $content)) }}
{{-   end }}
{{-   $bytes = add $bytes $own }}
{{-   if gt (int $own) (int $most) }}
{{-     $most = $own }}
{{-     $largest = $key }}
{{-   end }}
{{- end }}
{{- if gt (int $bytes) (int 409600) }}
{{-   $problem := printf "%d KiB, and all files together %d KiB" (div $most 1024) (div $bytes 1024) }}
{{-   $expected := "at most 400 KiB of all together; larger ones in a volume, by extraVolumes" }}
{{-   include "consilium.mistake" (list .found $largest $problem $expected) }}
{{- end }}
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
{{- range $file, $_ := default dict .of.files }}
{{-   if has $file (list "expert.yaml" "instance.yaml") }}
{{-     $at := printf "%s.files[%q]" $key $file }}
{{-     include "consilium.mistake" (list $.found $at "the chart makes this file" "settings instead") }}
{{-   end }}
{{- end }}
{{- include "consilium.validateGrace" (list .found $key .of.settle .of.grace 5) }}
{{- include "consilium.validateScaling" (dict "found" .found "key" $key "of" .of) }}
{{- end }}

{{/*
The bound of a leave, which router and expert refuse when it leaves no time after `settle`. The argument is a list: where mistakes
are collected, the key above both, settle, grace, and how many seconds there have to be between them.
*/}}
{{- define "consilium.validateGrace" -}}
{{- $found := index . 0 }}
{{- $key := index . 1 }}
{{- $wrong := false }}
{{- range $name, $value := dict "settle" (index . 2 | toString) "grace" (index . 3 | toString) }}
{{-   if not (regexMatch "^([0-9]+ *(ms|s|m|h) *)+$" $value) }}
{{-     $wrong = true }}
{{-     include "consilium.mistake" (list $found (printf "%s.%s" $key $name) (printf "%q" $value) "a duration, for example 20s") }}
{{-   end }}
{{- end }}
{{- $least := add (index . 2 | include "consilium.milliseconds" | int) (mul 1000 (index . 4)) }}
{{- if and (not $wrong) (lt (index . 3 | include "consilium.milliseconds" | int) (int $least)) }}
{{-   $problem := printf "%s, and settle is %s" (index . 3) (index . 2) }}
{{-   include "consilium.mistake" (list $found (printf "%s.grace" $key) $problem (printf "at least %ds more than settle" (index . 4))) }}
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
{{-   else if not (or $by.targetCPUUtilizationPercentage $by.metrics) }}
{{-     $problem := "0, and there are no other metrics" }}
{{-     $expected := "a percentage, or metrics" }}
{{-     include "consilium.mistake" (list .found (printf "%s.targetCPUUtilizationPercentage" $key) $problem $expected) }}
{{-   end }}
{{- end }}
{{- end }}
