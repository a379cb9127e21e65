package kafkatest

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Listener names one way into a broker.
type Listener string

// The listeners of every node. The SASL ones take [User] and [Guest] with
// PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
const (
	Plaintext     Listener = "PLAINTEXT"
	SASLPlaintext Listener = "SASL_PLAINTEXT"
	SSL           Listener = "SSL" // asks for a client certificate
	SASLSSL       Listener = "SASL_SSL"

	controller Listener = "CONTROLLER"
)

// Credentials of the SASL listeners. They are the same in every cluster and
// guard nothing.
const (
	User  = "alice" // may do everything
	Guest = "guest" // may do what no ACL forbids; see [Cluster.Deny]

	// Password is both users'.
	Password = "kafkatest-secret"
)

const host = "127.0.0.1"

// listeners is in the order of a node's ports.
var listeners = [portsPerNode]Listener{Plaintext, SASLPlaintext, SSL, SASLSSL, controller}

// properties is a Kafka properties file.
type properties map[string]string

func (p properties) writeFile(name string) error {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", key, p[key])
	}
	return os.WriteFile(name, []byte(b.String()), 0o600)
}

// nodeProperties configures one node of the cluster.
func (c *Cluster) nodeProperties(n *node, brokerCert string) properties {
	var bind, advertised, voters []string
	for _, l := range listeners {
		address := fmt.Sprintf("%s://%s", l, n.addr(l))
		bind = append(bind, address)
		if l != controller {
			advertised = append(advertised, address)
		}
	}
	for _, voter := range c.nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", voter.id, voter.addr(controller)))
	}
	replication, minISR := strconv.Itoa(len(c.nodes)), "1"
	if len(c.nodes) == MaxNodes {
		minISR = "2"
	}

	p := properties{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(n.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"controller.listener.names":      string(controller),
		"inter.broker.listener.name":     string(Plaintext),
		"listeners":                      strings.Join(bind, ","),
		"advertised.listeners":           strings.Join(advertised, ","),
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
		"log.dirs":                       n.logDir,

		"sasl.enabled.mechanisms":           "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"ssl.keystore.type":                 "PEM",
		"ssl.keystore.location":             brokerCert,
		"ssl.truststore.type":               "PEM",
		"ssl.truststore.location":           c.CAFile,
		"listener.name.ssl.ssl.client.auth": "required",

		// Everybody may do everything, until an ACL says what Guest may not.
		"authorizer.class.name":          "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"allow.everyone.if.no.acl.found": "true",
		"super.users":                    "User:ANONYMOUS;User:" + User + ";User:CN=client",

		// As in production, as far as the cluster has the nodes.
		"auto.create.topics.enable":                        "false",
		"min.insync.replicas":                              minISR,
		"offsets.topic.replication.factor":                 replication,
		"transaction.state.log.replication.factor":         replication,
		"transaction.state.log.min.isr":                    minISR,
		"share.coordinator.state.topic.replication.factor": replication,
		"share.coordinator.state.topic.min.isr":            minISR,

		// Tests should not wait for what production waits for. The broker's
		// session decides how long a killed leader is missed.
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "1000",
		"broker.session.timeout.ms":        "5000",
		"broker.heartbeat.interval.ms":     "500",

		// Small, to start quickly and to leave the machine to the tests.
		"offsets.topic.num.partitions":                 "5",
		"transaction.state.log.num.partitions":         "5",
		"share.coordinator.state.topic.num.partitions": "5",
		"log.cleaner.dedupe.buffer.size":               "4194304",
		"log.index.size.max.bytes":                     "1048576",
		"num.network.threads":                          "2",
		"num.io.threads":                               "4",
	}
	for _, l := range []Listener{SASLPlaintext, SASLSSL} {
		prefix := "listener.name." + strings.ToLower(string(l)) + "."
		p[prefix+"plain.sasl.jaas.config"] = fmt.Sprintf(
			"org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=%q user_%s=%q;",
			User, Password, Guest, Password)
		for _, scram := range []string{"scram-sha-256", "scram-sha-512"} {
			p[prefix+scram+".sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		}
	}
	maps.Copy(p, c.extra)
	return p
}

func (n *node) addr(l Listener) string {
	return net.JoinHostPort(host, strconv.Itoa(n.ports[l]))
}
