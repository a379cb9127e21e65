package kafkax

import "sync"

// maxAddresses is how many addresses a dialer remembers. Brokers come and go under
// names of their own, and a client may outlive any number of them.
const maxAddresses = 1000

// dialHistory is what became of a dialer's dials, by address. When there are too
// many addresses, all are forgotten: a failure is then told again, and a broker
// shows again that it wants no SASL.
type dialHistory struct {
	mu       sync.Mutex
	good     map[string]bool          // that a connection was made to
	failures map[string]*ConnectError // whose last dial failed
	last     *ConnectError            // of the dials since one succeeded; a refusal before all else
}

func newDialHistory() *dialHistory {
	return &dialHistory{good: make(map[string]bool), failures: make(map[string]*ConnectError)}
}

// served notes a connection. It is true if the dial before failed.
func (h *dialHistory) served(address string) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	again = h.failures[address] != nil
	delete(h.failures, address)
	h.last = nil
	if len(h.good) >= maxAddresses {
		clear(h.good)
	}
	h.good[address] = true
	return again
}

func (h *dialHistory) hasServed(address string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.good[address]
}

// failed notes a failure. It is true if it is another than the last time, and
// so worth a line: dials are repeated for ever, and a transport keeps to itself
// those that refresh its metadata.
func (h *dialHistory) failed(failure *ConnectError) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.failures[failure.Broker]
	if len(h.failures) >= maxAddresses {
		clear(h.failures)
	}
	h.failures[failure.Broker] = failure
	if h.last == nil || failure.refused || !h.last.refused {
		h.last = failure
	}
	return before == nil || before.Step != failure.Step || before.Hint != failure.Hint
}

// trouble is why there is no connection, if the last dial failed.
func (h *dialHistory) trouble() *ConnectError {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}
