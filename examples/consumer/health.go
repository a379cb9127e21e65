package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/bi-common/kafkax"
)

// healthServer is the health endpoint while it runs.
type healthServer struct {
	addr   net.Addr
	server *http.Server
	ended  chan error
}

// serveHealth serves until close.
func serveHealth(ctx context.Context, addr string, consumer *kafkax.Consumer, maxLag int64) (*healthServer, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("health endpoint: %w", err)
	}
	h := &healthServer{
		addr:   listener.Addr(),
		server: &http.Server{Handler: healthHandler(consumer, maxLag), ReadHeaderTimeout: 5 * time.Second},
		ended:  make(chan error, 1),
	}
	go func() { h.ended <- h.server.Serve(listener) }()
	return h, nil
}

// close lets requests in flight finish, and returns why the server ended if
// that was before.
func (h *healthServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	shutdownErr := h.server.Shutdown(ctx)
	if err := <-h.ended; err != http.ErrServerClosed { //nolint:errorlint // it is this very value
		return fmt.Errorf("health endpoint: %w", err)
	}
	return shutdownErr
}

// healthHandler answers an orchestrator.
func healthHandler(consumer *kafkax.Consumer, maxLag int64) http.Handler {
	mux := http.NewServeMux()

	// Not alive means: restart me. No cluster is no reason, as a restart would
	// not bring it back; nor is a stop under way, which it would cut off.
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "alive")
	})

	// Not ready means: hold the rollout, tell somebody.
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if consumer.IsShutdown() {
			http.Error(w, "stopping", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := consumer.Ping(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		// -1 while the group shares out its partitions, and in a member that
		// got none: it stands by, which is ready too.
		lag := consumer.Lag()
		if lag > maxLag {
			http.Error(w, fmt.Sprintf("lag %d is above %d", lag, maxLag), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintf(w, "ready, lag %d\n", lag)
	})
	return mux
}
