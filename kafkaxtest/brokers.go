package kafkaxtest

import (
	"context"
	"net"
	"slices"
)

// Brokers is a Kafka that runs already, for [Start]: its plaintext addresses as
// it advertises them, in place of the cluster in memory. Clients reach it
// through [Sim.Dial], so that the network's faults, what is recorded and what is
// checked are the same. Topics have as many replicas as there are brokers, at
// most 3. [Sim.Fail], [Sim.MoveCoordinators], [Sim.Expire] and [Sim.Compact] fail
// the test: only the cluster in memory can be made to do that. Topics and groups stay when the test ends.
func Brokers(addresses ...string) Option { return func(o *options) { o.brokers = addresses } }

// Through is for another process of a test whose simulation has [Brokers]: its
// clients reach them by way of what [Sim.Proxied] says there. The faults are that
// simulation's to make, and it alone sees what brokers answer: assignments,
// commits and dead letters. This one records what its members do.
func Through(proxied ...string) Option { return func(o *options) { o.through = proxied } }

// MembersNamed makes the names of members begin otherwise than with "member",
// where a test has members in several processes.
func MembersNamed(prefix string) Option { return func(o *options) { o.members = prefix } }

// Proxied are the addresses at which other processes of the test reach the
// brokers with the faults of this simulation, in the order of the nodes: see
// [Through]. Only with the option [Brokers].
func (s *Sim) Proxied() []string { return slices.Clone(s.proxied) }

// attach puts the simulation before brokers that run already.
func (s *Sim) attach() {
	s.T.Helper()
	if s.virtual {
		s.T.Fatal("kafkaxtest: Brokers is for Start: those of another process know nothing of a virtual clock")
	}
	s.proxied = s.options.through
	if len(s.proxied) == 0 {
		s.proxied = s.listen()
	}
	if len(s.proxied) != len(s.options.brokers) {
		s.T.Fatalf("kafkaxtest: Through names %d addresses for %d brokers", len(s.proxied), len(s.options.brokers))
	}
	to := map[string]string{}
	for i, address := range s.options.brokers {
		to[address] = s.proxied[i]
	}
	direct := s.feedDial
	s.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxied, ok := to[address]; ok {
			address = proxied
		}
		return direct(ctx, network, address)
	}
	s.connect(s.options.brokers)
	s.backend = running{s.options.brokers, s.feed}
	for topic, partitions := range s.options.topics {
		s.CreateTopic(topic, partitions)
	}
}

// listen puts a listener on loopback before each broker.
func (s *Sim) listen() (addresses []string) {
	s.T.Helper()
	for _, address := range s.options.brokers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.T.Fatalf("kafkaxtest: a listener before %s: %v", address, err)
		}
		s.network.Forward(l, address)
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
