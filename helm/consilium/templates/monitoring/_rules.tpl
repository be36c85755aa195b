{{/*
Rules are files with gaps, made of what `consilium slo rules` says (rules/*.yaml, helm/build.py). Numbers are written as that
program writes them, so that what is filled in is what it would have made of the same mesh.
*/}}

{{/* The JSON `text` with what `gaps` has in the place of its keys. */}}
{{- define "consilium.rules.filled" -}}
{{- $text := .text }}
{{- range $gap, $value := .gaps }}
{{-   $text = replace $gap (toJson $value | trimPrefix "\"" | trimSuffix "\"") $text }}
{{- end }}
{{- $text }}
{{- end }}

{{/* The gaps that are the same for every rule. */}}
{{- define "consilium.rules.gaps" -}}
{{- $values := .Values.metrics.prometheusRule }}
{{- $scope := ternary (printf "namespace=%q" .Release.Namespace) "" $values.byNamespace }}
{{- $gaps := dict "@mesh@" .Effective.mesh.name "@runbook@" $values.runbookUrl "@dashboards@" $values.dashboardUrl }}
{{- $_ := set $gaps "@all@" (ternary (printf "{%s}" $scope) "" $values.byNamespace) }}
{{- $_ := set $gaps "@and@" (ternary (printf ", %s" $scope) "" $values.byNamespace) }}
{{- $_ := set $gaps "@more-than@" (include "consilium.rules.number" (subf $values.leastBad 0.5)) }}
{{- toJson $gaps }}
{{- end }}

{{/* The gaps of an expert: its name is `expert`, its promise `slo`. */}}
{{- define "consilium.rules.gapsOfExpert" -}}
{{- $budget := subf 1 .slo.objective }}
{{- $share := regexReplaceAll "[.]?0+$" (printf "%.3f" (mulf .slo.objective 100)) "" }}
{{- $gaps := dict "@expert@" .expert }}
{{- $_ := set $gaps "@promise@" (printf "%s%% within %s" $share (include "consilium.rules.brief" .slo.latency)) }}
{{- $_ := set $gaps "@objective@" (include "consilium.rules.number" .slo.objective) }}
{{- $_ := set $gaps "@percent@" (include "consilium.rules.number" (mulf .slo.objective 100)) }}
{{- $_ := set $gaps "@budget@" (include "consilium.rules.number" $budget) }}
{{- $_ := set $gaps "@budget-percent@" (include "consilium.rules.number" (mulf $budget 100)) }}
{{- toJson $gaps }}
{{- end }}

{{/* With as many digits as somebody would write, and never an exponent. */}}
{{- define "consilium.rules.number" -}}
{{- regexReplaceAll "[.]?0+$" (printf "%.12f" (float64 .)) "" }}
{{- end }}

{{/* A latency such as `1m 30s`, briefly: 0.25 ms, 7.5 ms, 150 ms, 90.00 s. */}}
{{- define "consilium.rules.brief" -}}
{{- $milliseconds := 0.0 }}
{{- $units := dict "ns" 0.000001 "nsec" 0.000001 "us" 0.001 "usec" 0.001 "ms" 1 "msec" 1 }}
{{- range list "s" "sec" "second" "seconds" }}{{ $_ := set $units . 1000 }}{{ end }}
{{- range list "m" "min" "minute" "minutes" }}{{ $_ := set $units . 60000 }}{{ end }}
{{- range list "h" "hr" "hour" "hours" }}{{ $_ := set $units . 3600000 }}{{ end }}
{{- range regexFindAll "[0-9]+ *[a-z]+" . -1 }}
{{-   $unit := get $units (regexFind "[a-z]+" .) }}
{{-   $milliseconds = addf $milliseconds (mulf (regexFind "[0-9]+" .) $unit) }}
{{- end }}
{{- if lt $milliseconds 1.0 }}{{ printf "%.2f ms" $milliseconds }}
{{- else if lt $milliseconds 10.0 }}{{ printf "%.1f ms" $milliseconds }}
{{- else if lt $milliseconds 999.5 }}{{ printf "%.0f ms" $milliseconds }}
{{- else }}{{ printf "%.2f s" (divf $milliseconds 1000) }}
{{- end }}
{{- end }}
