package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax"
)

// SecureBroker is [Broker] where the one in this process asks for TLS and a
// password. Conn then has the files to connect with, which the function
// removes.
func SecureBroker(ctx context.Context, out *log.Logger, conn *kafkax.ConnectionConfig, topics ...Topic) (stop func(), err error) {
	if len(conn.Brokers) > 0 {
		return Broker(ctx, out, conn, topics...)
	}
	dir, err := os.MkdirTemp("", "kafkax-example-")
	if err != nil {
		return nil, err
	}
	remove := func() {
		if err := os.RemoveAll(dir); err != nil {
			out.Printf("remove the certificate: %v", err)
		}
	}
	cluster, err := startSecure(dir, conn)
	if err != nil {
		remove()
		return nil, err
	}
	stop = func() { cluster.Close(); remove() }
	out.Print("broker: in this process, with TLS and a password; KAFKAX_BROKERS names another")
	if err := makeTopics(ctx, conn, topics); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func startSecure(dir string, conn *kafkax.ConnectionConfig) (*kfake.Cluster, error) {
	caFile, passwordFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "password")
	user, password := "example", rand.Text()
	cert, err := selfSigned()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600),
		os.WriteFile(passwordFile, []byte(password), 0o600),
	)
	if err != nil {
		return nil, err
	}
	conn.TLS = kafkax.TLSConfig{Enabled: true, CAFile: caFile}
	conn.SASL = kafkax.SASLConfig{Mechanism: kafkax.SASLScramSHA512, Username: user, PasswordFile: passwordFile}
	return start(conn,
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}),
		kfake.EnableSASL(),
		kfake.Superuser(string(kafkax.SASLScramSHA512), user, password),
	)
}

// selfSigned is a certificate for loopback that is its own authority.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "kafkax example"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
