{{/*
What the schema cannot see: values that contradict each other. All mistakes come out together, each with the key, what is wrong
and what was expected. Called by "consilium.prepare" with the root.
*/}}
{{- define "consilium.validate" -}}
{{- $found := dict "mistakes" list }}
{{- $at := dict "root" . "found" $found }}
{{- include "consilium.validateNames" $at }}
{{- include "consilium.validateEtcd" $at }}
{{- include "consilium.validateRunningEtcd" $at }}
{{- include "consilium.validateTls" $at }}
{{- include "consilium.validateModels" $at }}
{{- include "consilium.validateMesh" $at }}
{{- range $name, $of := .Effective.experts }}
{{-   include "consilium.validateExpert" (dict "root" $ "found" $found "name" $name "of" $of) }}
{{- end }}
{{- include "consilium.validateFiles" $at }}
{{- include "consilium.validateScaling" (dict "found" $found "key" "router" "of" .Values.router) }}
{{- if $found.mistakes }}
{{-   fail (printf "\n\nThese values cannot be used:\n- %s\n" (join "\n- " $found.mistakes)) }}
{{- end }}
{{- end }}

{{/* One more mistake. The argument is a list: where they are collected, the key, what is wrong, what was expected. */}}
{{- define "consilium.mistake" -}}
{{- $found := index . 0 }}
{{- $mistake := printf "%s: %s; expected: %s" (index . 1) (index . 2) (index . 3) }}
{{- $_ := set $found "mistakes" (append $found.mistakes $mistake) }}
{{- end }}

{{/*
Kubernetes puts up to 11 characters behind the name of a Deployment or StatefulSet for its revisions, which are values of labels:
at most 63.
*/}}
{{- define "consilium.validateNames" -}}
{{- $experts := .root.Effective.experts }}
{{- $fullname := include "consilium.fullname" .root }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) }}
{{-   $expected := "lower-case letters, digits and -, with a letter first: a Service has to be called so" }}
{{-   include "consilium.mistake" (list .found "fullnameOverride" (printf "names would begin with %q" $fullname) $expected) }}
{{- end }}
{{- $expected := "at most 52: a shorter name for the release or the expert, or fullnameOverride" }}
{{- range $part := concat (list "router" "etcd") (keys $experts | sortAlpha) }}
{{-   $name := include "consilium.nameOf" (dict "root" $.root "part" $part) }}
{{-   if gt (len $name) 52 }}
{{-     $key := ternary (printf "experts.%s" $part) "fullnameOverride" (hasKey $experts $part) }}
{{-     $problem := printf "the name %s has %d characters" $name (len $name) }}
{{-     include "consilium.mistake" (list $.found $key $problem $expected) }}
{{-   end }}
{{- end }}
{{- end }}

{{- define "consilium.validateEtcd" -}}
{{- $etcd := .root.Values.etcd }}
{{- $external := .root.Values.externalEtcd }}
{{- if and $etcd.enabled $external.endpoints }}
{{-   $expected := "etcd.enabled: false, or no endpoints here" }}
{{-   include "consilium.mistake" (list .found "externalEtcd.endpoints" "there are two: etcd.enabled is true as well" $expected) }}
{{- else if not (or $etcd.enabled $external.endpoints) }}
{{-   $expected := "where etcd is, or etcd.enabled: true" }}
{{-   include "consilium.mistake" (list .found "externalEtcd.endpoints" "none, and etcd.enabled is false" $expected) }}
{{- end }}
{{- if $etcd.enabled }}
{{-   $replicas := int $etcd.replicas }}
{{-   if or (lt $replicas 1) (eq (mod $replicas 2) 0) }}
{{-     $expected := "1, 3 or 5: an even number survives no more than one less" }}
{{-     include "consilium.mistake" (list .found "etcd.replicas" (printf "%d members" $replicas) $expected) }}
{{-   end }}
{{-   if and (gt $replicas 1) (not $etcd.persistence.enabled) }}
{{-     $expected := "true: a member that lost its data is not let in again; or etcd.replicas: 1" }}
{{-     $problem := printf "false, with %d members" $replicas }}
{{-     include "consilium.mistake" (list .found "etcd.persistence.enabled" $problem $expected) }}
{{-   end }}
{{- else }}
{{-   $secret := $external.tls.existingSecret }}
{{-   $scheme := ternary "https://" "http://" (not (empty $secret)) }}
{{-   range $index, $endpoint := $external.endpoints }}
{{-     if not (hasPrefix $scheme $endpoint) }}
{{-       $problem := printf "%q, %s externalEtcd.tls.existingSecret" $endpoint (ternary "without" "with" (empty $secret)) }}
{{-       $expected := "https://host:port with a Secret there, http://host:port without" }}
{{-       include "consilium.mistake" (list $.found (printf "externalEtcd.endpoints[%d]" $index) $problem $expected) }}
{{-     end }}
{{-   end }}
{{- end }}
{{- end }}

{{/*
What cannot be done to an etcd that runs, which only Helm with a cluster can see. A member that is added begins a cluster of its
own, and members that keep their data keep the addresses of the others in it.
*/}}
{{- define "consilium.validateRunningEtcd" -}}
{{- $etcd := .root.Values.etcd }}
{{- $name := include "consilium.nameOf" (dict "root" .root "part" "etcd") }}
{{- $running := dict }}
{{- if $etcd.enabled }}
{{-   $running = lookup "apps/v1" "StatefulSet" .root.Release.Namespace $name | default dict }}
{{- end }}
{{- if $running.spec }}
{{-   $instead := "or a new release, or this one uninstalled and its claims deleted (UPGRADING.md)" }}
{{- /* From what the members are told: a number of pods can be changed for an hour. */}}
{{-   $members := 0 }}
{{-   $tls := false }}
{{-   range $container := dig "template" "spec" "containers" list $running.spec }}
{{-     range $argument := $container.args }}
{{-       if hasPrefix "--initial-cluster=" $argument }}
{{-         $members = splitList "," $argument | len }}
{{-         $tls = contains "=https://" $argument }}
{{-       end }}
{{-     end }}
{{-   end }}
{{-   if and $members (ne $members (int $etcd.replicas)) }}
{{-     $problem := printf "%d, and %s runs with %d: members cannot be added or taken away" (int $etcd.replicas) $name $members }}
{{-     include "consilium.mistake" (list .found "etcd.replicas" $problem (printf "%d as before, %s" $members $instead)) }}
{{-   end }}
{{-   $persistent := not (empty $running.spec.volumeClaimTemplates) }}
{{-   if ne $persistent $etcd.persistence.enabled }}
{{-     $problem := printf "%t, and %s runs with %t" $etcd.persistence.enabled $name $persistent }}
{{-     $expected := printf "%t as before, %s" $persistent $instead }}
{{-     include "consilium.mistake" (list .found "etcd.persistence.enabled" $problem $expected) }}
{{-   end }}
{{-   if and $members $persistent (ne $tls .root.Values.tls.enabled) }}
{{-     $problem := printf "%t, and %s keeps data of members with %t" .root.Values.tls.enabled $name $tls }}
{{-     include "consilium.mistake" (list .found "tls.enabled" $problem (printf "%t as before, %s" $tls $instead)) }}
{{-   end }}
{{- end }}
{{- end }}

{{- define "consilium.validateTls" -}}
{{- $tls := .root.Values.tls }}
{{- $secrets := $tls.existingSecrets }}
{{- $ways := list }}
{{- if $tls.certManager.enabled }}{{ $ways = append $ways "certManager" }}{{ end }}
{{- if or $secrets.router $secrets.expert $secrets.etcd }}{{ $ways = append $ways "existingSecrets" }}{{ end }}
{{- if $tls.selfSigned.enabled }}{{ $ways = append $ways "selfSigned" }}{{ end }}
{{- if not $tls.enabled }}
{{-   range $given := concat $ways (ternary (list "clientCertificates") list $tls.clientCertificates) }}
{{-     $expected := "tls.enabled: true, or nothing here" }}
{{-     include "consilium.mistake" (list $.found (printf "tls.%s" $given) "given, but tls.enabled is false" $expected) }}
{{-   end }}
{{- else if ne (len $ways) 1 }}
{{-   $several := printf "several ways to certificates: %s" (join ", " $ways) }}
{{-   $problem := ternary "no way to certificates" $several (empty $ways) }}
{{-   $expected := "one of certManager.enabled, existingSecrets and selfSigned.enabled" }}
{{-   include "consilium.mistake" (list .found "tls" $problem $expected) }}
{{- else if and $tls.certManager.enabled (not $tls.certManager.issuerRef.name) }}
{{-   $expected := "the name of an Issuer or ClusterIssuer" }}
{{-   include "consilium.mistake" (list .found "tls.certManager.issuerRef.name" "empty" $expected) }}
{{- else if has "existingSecrets" $ways }}
{{-   $expected := "the name of a Secret with tls.crt, tls.key and ca.crt" }}
{{-   range $part := include "consilium.tlsParts" .root | fromYamlArray }}
{{-     if not (get $secrets $part) }}
{{-       include "consilium.mistake" (list $.found (printf "tls.existingSecrets.%s" $part) "empty" $expected) }}
{{-     end }}
{{-   end }}
{{- end }}
{{- end }}

{{- define "consilium.validateModels" -}}
{{- $models := .root.Values.models }}
{{- if and (eq $models.source "claim") (not $models.claim.name) }}
{{-   $expected := "the name of a PersistentVolumeClaim, or another models.source" }}
{{-   include "consilium.mistake" (list .found "models.claim.name" "empty" $expected) }}
{{- end }}
{{- if and (eq $models.source "fetch") (not $models.fetch.models) }}
{{-   include "consilium.mistake" (list .found "models.fetch.models" "empty" "what to download, or another models.source") }}
{{- else if eq $models.source "fetch" }}
{{-   $needed := dict }}
{{-   range $name, $of := .root.Effective.experts }}
{{-     range include "consilium.modelsOf" $of | fromYamlArray }}
{{-       $_ := set $needed . (printf "experts.%s.settings.task.model" $name) }}
{{-     end }}
{{-   end }}
{{-   with dig "gate" "encoder" "" .root.Effective.mesh }}
{{-     $_ := set $needed . "mesh.gate.encoder" }}
{{-   end }}
{{-   range $model, $who := $needed }}
{{-     if not (hasKey $models.fetch.models $model) }}
{{-       $key := printf "models.fetch.models.%s" $model }}
{{-       include "consilium.mistake" (list $.found $key (printf "missing, and %s needs it" $who) "its url and sha256") }}
{{-     end }}
{{-   end }}
{{- end }}
{{- end }}
