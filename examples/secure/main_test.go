package main

import (
	"errors"
	"io"
	"log"
	"strings"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	demotest.Contains(t, demotest.Run(t, run),
		"broker: in this process, with TLS and a password",
		"security: SASL_SSL\n",
		"  SCRAM-SHA-512  ",
		"ping: accepted\n",
		"consumed: 1707 messages\n",
	)
}

func TestRunWrongPassword(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, run, "-wrong-password")
	err := p.Wait()
	var connect *kafkax.ConnectError
	if !errors.As(err, &connect) || !strings.Contains(connect.Hint, "sasl.password") {
		t.Fatalf("error %v, want a ConnectError that says what to check\n%s", err, p)
	}
	if strings.Contains(err.Error(), "wrong") || strings.Contains(p.String(), "wrong") {
		t.Errorf("shows the password: %v\n%s", err, p)
	}
}

// Not parallel, as it sets the environment.
func TestRunOnACluster(t *testing.T) {
	conn := kafkax.ConnectionConfig{}
	stop, err := demo.SecureBroker(t.Context(), log.New(io.Discard, "", 0), &conn)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	t.Setenv("KAFKAX_BROKERS", conn.Brokers[0])
	t.Setenv("KAFKAX_TLS_ENABLED", "true")
	t.Setenv("KAFKAX_TLS_CA_FILE", conn.TLS.CAFile)
	t.Setenv("KAFKAX_SASL_MECHANISM", string(conn.SASL.Mechanism))
	t.Setenv("KAFKAX_SASL_USERNAME", conn.SASL.Username)
	t.Setenv("KAFKAX_SASL_PASSWORD_FILE", conn.SASL.PasswordFile)
	demotest.Contains(t, demotest.Run(t, run),
		"broker: "+conn.Brokers[0]+"\n",
		"security: SASL_SSL\n",
		"  env KAFKAX_TLS_CA_FILE\n",
		"consumed: 1707 messages\n",
	)

	t.Setenv("KAFKAX_TLS_CA_FILE", "") // the system's authorities know nothing of it
	p := demotest.Start(t, run)
	if err := p.Wait(); !errors.Is(err, kafkax.ErrAuthentication) {
		t.Errorf("error %v, want one that matches ErrAuthentication", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-wrong-password")
}
