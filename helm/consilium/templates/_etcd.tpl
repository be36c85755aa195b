{{/*
The pod of a member of the chart's etcd. The argument is as in _pod.tpl.

`--initial-cluster-state=new` is right whenever a member starts: one that finds its data does not read it, one that lost an
emptyDir is the only one (values with more members and no persistence are refused) and begins an empty cluster, which router and
experts fill again. It would be wrong for a member that joins others, so values that add one to what runs are refused.
*/}}
{{- define "consilium.etcdPod" -}}
{{- $root := .root }}
{{- $tls := $root.Values.tls.enabled }}
{{- $scheme := ternary "https" "http" $tls }}
{{- $listen := $root.Values.listenHost }}
{{- $self := printf "$(POD_NAME).%s.%s.svc" .name $root.Release.Namespace }}
{{- $members := list }}
{{- range $member := until (int .of.replicas) }}
{{-   $host := include "consilium.etcdHost" (dict "root" $root "member" $member) }}
{{-   $members = append $members (printf "%s-%d=%s://%s:2380" $.name $member $scheme $host) }}
{{- end }}
metadata:
  {{- include "consilium.podMetadata" . | nindent 2 }}
spec:
  {{- include "consilium.podPlace" (merge (dict "grace" 30) .) | nindent 2 }}
  containers:
    - name: etcd
      {{- include "consilium.containerImage" (dict "root" $root "image" .of.image "home" "quay.io") | nindent 6 }}
      command: [/usr/local/bin/etcd]
      args:
        - --name=$(POD_NAME)
        - --data-dir=/var/lib/etcd/data
        - --listen-client-urls={{ $scheme }}://{{ $listen }}:2379
        - --advertise-client-urls={{ $scheme }}://{{ $self }}:2379
        - --listen-peer-urls={{ $scheme }}://{{ $listen }}:2380
        - --initial-advertise-peer-urls={{ $scheme }}://{{ $self }}:2380
        - --initial-cluster={{ join "," $members }}
        - --initial-cluster-state=new
        - --initial-cluster-token={{ $root.Release.Namespace }}-{{ .name }}
        {{- /* Without TLS, for the probes; it tells nothing of what is stored. */}}
        - --listen-metrics-urls=http://{{ $listen }}:2381
        - --auto-compaction-mode=periodic
        - --auto-compaction-retention=1h
        - --quota-backend-bytes={{ int64 .of.quotaBytes }}
        {{- if $tls }}
        - --cert-file=/etc/etcd/tls/tls.crt
        - --key-file=/etc/etcd/tls/tls.key
        - --trusted-ca-file=/etc/etcd/tls/ca.crt
        - --client-cert-auth
        - --peer-cert-file=/etc/etcd/tls/tls.crt
        - --peer-key-file=/etc/etcd/tls/tls.key
        - --peer-trusted-ca-file=/etc/etcd/tls/ca.crt
        - --peer-client-cert-auth
        {{- end }}
        {{- with .of.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- $env := list (dict "name" "POD_NAME" "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.name"))) }}
      {{- include "consilium.env" (dict "of" .of "ours" $env) | nindent 6 }}
      ports:
        - {name: client, containerPort: 2379, protocol: TCP}
        - {name: peer, containerPort: 2380, protocol: TCP}
        - {name: metrics, containerPort: 2381, protocol: TCP}
      startupProbe:
        httpGet: {path: /livez, port: metrics, scheme: HTTP}
        periodSeconds: 1
        timeoutSeconds: 2
        failureThreshold: 120
      readinessProbe:
        httpGet: {path: /readyz, port: metrics, scheme: HTTP}
        periodSeconds: 2
        timeoutSeconds: 5
      livenessProbe:
        httpGet: {path: /livez, port: metrics, scheme: HTTP}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      {{- with .of.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/etcd}
        {{- if $tls }}
        - {name: tls, mountPath: /etc/etcd/tls, readOnly: true}
        {{- end }}
  {{- if or $tls (not .of.persistence.enabled) }}
  volumes:
    {{- if not .of.persistence.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- if $tls }}
    - name: tls
      secret:
        secretName: {{ include "consilium.tlsSecret" (dict "root" $root "part" "etcd") | quote }}
        defaultMode: 0440
    {{- end }}
  {{- end }}
{{- end }}
