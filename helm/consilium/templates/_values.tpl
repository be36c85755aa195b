{{/*
The values that everything reads: what the user says, over the example, over the defaults.

Every template that makes objects begins with `include "consilium.prepare" .`. The first one to do so computes `.Effective`:
  mesh       mesh.yaml without what the chart adds
  meshFiles  the files that it names, by name
  experts    by name, each over `expertDefaults`; those that are not enabled are left out
  questions  what `helm test` asks
Nothing below reads .Values.mesh, .Values.meshFiles, .Values.experts or .Values.test.questions.
*/}}
{{- define "consilium.prepare" -}}
{{- if not (hasKey . "Effective") }}
{{-   $example := dict }}
{{-   if ne .Values.example "none" }}
{{-     $example = .Files.Get (printf "examples/%s.yaml" .Values.example) | fromYaml }}
{{-   end }}
{{-   $mesh := deepCopy (default dict $example.mesh) }}
{{-   include "consilium.lay" (dict "over" (default dict .Values.mesh) "under" $mesh) }}
{{-   $files := deepCopy (default dict $example.meshFiles) }}
{{-   include "consilium.lay" (dict "over" (default dict .Values.meshFiles) "under" $files) }}
{{-   $said := deepCopy (default dict $example.experts) }}
{{-   include "consilium.lay" (dict "over" (default dict .Values.experts) "under" $said) }}
{{-   $experts := dict }}
{{-   range $name, $over := $said }}
{{-     $expert := deepCopy $.Values.expertDefaults }}
{{-     include "consilium.lay" (dict "over" (default dict $over) "under" $expert) }}
{{-     if ne (toString $expert.enabled) "false" }}
{{-       $_ := set $experts $name $expert }}
{{-     end }}
{{-   end }}
{{-   $questions := .Values.test.questions | default (dig "test" "questions" "" $example) }}
{{-   $_ := set . "Effective" (dict "mesh" $mesh "meshFiles" $files "experts" $experts "questions" $questions) }}
{{-   include "consilium.validate" . }}
{{- end }}
{{- end }}

{{/*
Lays the map `over` on the map `under`, in place: maps are merged, everything else is replaced, null takes a key away. As Helm
does it with values files; the function mergeOverwrite would skip whatever is false, 0 or empty.
*/}}
{{- define "consilium.lay" -}}
{{- $under := .under }}
{{- range $key, $value := .over }}
{{-   if and (kindIs "map" $value) (kindIs "map" (get $under $key)) }}
{{-     include "consilium.lay" (dict "over" $value "under" (get $under $key)) }}
{{-   else if kindIs "invalid" $value }}
{{-     $_ := unset $under $key }}
{{-   else if kindIs "map" $value }}
{{- /* Through an empty map, so that its nulls go as well, and nobody's values are shared. */}}
{{-     $copy := dict }}
{{-     include "consilium.lay" (dict "over" $value "under" $copy) }}
{{-     $_ := set $under $key $copy }}
{{-   else }}
{{-     $_ := set $under $key $value }}
{{-   end }}
{{- end }}
{{- end }}

{{/*
The same for parts of Kubernetes objects, where lists of things with names (containers, volumes, env, ports) are merged by name:
what `podTemplate.merge` says of a container need not repeat the container.
*/}}
{{- define "consilium.layObject" -}}
{{- $under := .under }}
{{- range $key, $value := .over }}
{{-   $below := get $under $key }}
{{-   if and (kindIs "map" $value) (kindIs "map" $below) }}
{{-     include "consilium.layObject" (dict "over" $value "under" $below) }}
{{-   else if kindIs "invalid" $value }}
{{-     $_ := unset $under $key }}
{{-   else if and (kindIs "slice" $value) (kindIs "slice" $below) }}
{{-     $_ := set $under $key (include "consilium.layNamed" (dict "over" $value "under" $below) | fromYamlArray) }}
{{-   else }}
{{-     $_ := set $under $key $value }}
{{-   end }}
{{- end }}
{{- end }}

{{/*
The list `under` with the items of `over` merged into those of the same name, and the others at its end, as YAML. A list with an
item that has no name replaces the whole.
*/}}
{{- define "consilium.layNamed" -}}
{{- $named := true }}
{{- range concat .under .over }}
{{-   if not (kindIs "map" .) }}{{ $named = false }}
{{-   else if not (hasKey . "name") }}{{ $named = false }}
{{-   end }}
{{- end }}
{{- if not $named }}
{{-   toYaml .over }}
{{- else }}
{{-   $items := list }}
{{-   $at := dict }}
{{-   range concat .under .over }}
{{-     if hasKey $at .name }}
{{-       $below := get $at .name }}
{{- /* A variable has a value or a place that it comes from; the later one counts. */}}
{{-       if hasKey . "value" }}{{ $_ := unset $below "valueFrom" }}{{ end }}
{{-       if hasKey . "valueFrom" }}{{ $_ := unset $below "value" }}{{ end }}
{{-       include "consilium.layObject" (dict "over" . "under" $below) }}
{{-     else }}
{{-       $item := deepCopy . }}
{{-       $_ := set $at .name $item }}
{{-       $items = append $items $item }}
{{-     end }}
{{-   end }}
{{-   toYaml $items }}
{{- end }}
{{- end }}
