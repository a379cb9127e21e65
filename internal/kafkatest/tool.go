package kafkatest

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// Java is a command that runs Java with Kafka's own classes on its path: a
// main class with its arguments, or a .java source file.
func (c *Cluster) Java(ctx context.Context, args ...string) *exec.Cmd {
	return c.dist.java(ctx, args...)
}

// Tool runs one of Kafka's tools against the cluster's [Plaintext] listener
// and returns what it prints. A failure ends the test.
//
//	cluster.Tool(t, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--describe", "--group", group)
func (c *Cluster) Tool(t testing.TB, class string, args ...string) string {
	t.Helper()
	servers := strings.Join(c.Brokers(), ",")
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	out, err := c.Java(ctx, append([]string{class, "--bootstrap-server", servers}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("kafkatest: %s: %v\n%s", class, err, out)
	}
	return string(out)
}
