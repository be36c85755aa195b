// The plugins that write clients/go/consiliumv1. A module of our own, so that what they need is not what the client's users
// get. To take another VERSION:
//   go get -tool google.golang.org/protobuf/cmd/protoc-gen-go@VERSION && go mod tidy
// and the same with google.golang.org/grpc/cmd/protoc-gen-go-grpc; then generate again.
module consilium/tests/protoc

go 1.24.0

tool (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc
	google.golang.org/protobuf/cmd/protoc-gen-go
)

require (
	google.golang.org/grpc/cmd/protoc-gen-go-grpc v1.6.1 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
