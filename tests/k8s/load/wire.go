package main

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// wire counts what the client does below our API: gRPC's own attempts, and the connections that it makes. It is what tells
// "nothing failed" from "nothing had to be done twice".
type wire struct {
	attempts    atomic.Int64
	connections atomic.Int64
	lock        sync.Mutex
	peers       map[string]int64
}

// peersByAddress is how many attempts each address answered: routers, or the one Service that stands for them.
func (w *wire) peersByAddress() map[string]int64 {
	w.lock.Lock()
	defer w.lock.Unlock()
	peers := make(map[string]int64, len(w.peers))
	for address, count := range w.peers {
		peers[address] = count
	}
	return peers
}

func (w *wire) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (w *wire) HandleRPC(_ context.Context, event stats.RPCStats) {
	switch event := event.(type) {
	case *stats.Begin:
		w.attempts.Add(1)
	case *stats.OutHeader:
		if event.RemoteAddr == nil {
			return
		}
		w.lock.Lock()
		defer w.lock.Unlock()
		if w.peers == nil {
			w.peers = make(map[string]int64)
		}
		w.peers[event.RemoteAddr.String()]++
	}
}

func (w *wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (w *wire) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, begun := event.(*stats.ConnBegin); begun {
		w.connections.Add(1)
	}
}
