package kafkatest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed pom.xml
var pom []byte

const (
	// installTimeout bounds the download of about 54 MB of jars.
	installTimeout = 5 * time.Minute

	// copyDependencies is pinned, as Maven would take another version of the
	// plugin some day. This one comes with it since 3.1.
	copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"

	// installPort is held by the process that downloads, so that test
	// binaries that start together download once.
	installPort = firstPort - 1
)

// distribution is one version of Kafka in the user's cache: its jars, and the
// first metadata records of a cluster, which are the same for every node and
// every cluster.
type distribution struct {
	version version
	dir     string
}

func (d distribution) classpath() string { return filepath.Join(d.dir, "libs", "*") }

// formatted is a node's storage before its first start, but for what names the
// node. Where the records are in it is Kafka's affair: up to 4.3 in a file of
// their own, since 4.4 in a snapshot of the metadata log.
func (d distribution) formatted() string { return filepath.Join(d.dir, "formatted") }

// installed says where the distribution belongs and whether it is there.
func installed() (d distribution, ok bool, err error) {
	version, err := chosen()
	if err != nil {
		return distribution{}, false, err
	}
	cache, err := cacheDir()
	if err != nil {
		return distribution{}, false, err
	}

	// Whatever shapes the content is part of the name, so a change of it
	// never meets an old folder.
	content := sha256.New()
	content.Write(pom)
	content.Write(version.sums)
	content.Write([]byte(strings.Join(scramArgs(), " ")))
	name := fmt.Sprintf("kafka-%s-%s", version.name, hex.EncodeToString(content.Sum(nil))[:12])
	d = distribution{version: version, dir: filepath.Join(cache, name)}

	_, err = os.Stat(d.dir)
	if errors.Is(err, os.ErrNotExist) {
		return d, false, nil
	}
	return d, err == nil, err
}

// install returns the distribution and downloads it first if it is missing.
func install(ctx context.Context) (distribution, error) {
	d, ok, err := installed()
	if err != nil || ok {
		return d, err
	}

	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	lock, err := waitForPort(ctx, installPort)
	if err != nil {
		return distribution{}, fmt.Errorf("waiting for another process that downloads Kafka: %w", err)
	}
	defer lock.Close()

	if d, ok, err = installed(); err != nil || ok {
		return d, err
	}
	return d, download(ctx, d)
}

// download makes the distribution in a temporary folder and renames it, so
// that an interrupted run leaves nothing that looks complete.
func download(ctx context.Context, d distribution) error {
	cache := filepath.Dir(d.dir)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, "download-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	pomFile := filepath.Join(tmp, "pom.xml")
	if err := os.WriteFile(pomFile, pom, 0o644); err != nil {
		return err
	}
	say("fetching the jars of Kafka %s with Maven, about 54 MB, once", d.version.name)
	libs := filepath.Join(tmp, "libs")
	mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "--strict-checksums", "-f", pomFile, copyDependencies,
		"-Dkafka.version="+d.version.name, "-DoutputDirectory="+libs)
	if out, err := mvn.CombinedOutput(); err != nil {
		return fmt.Errorf("download Kafka %s with Maven: %w\n%s", d.version.name, err, out)
	}
	if err := checkSums(libs, d.version.sums); err != nil {
		return fmt.Errorf("what Maven brought is not what %s lists: %w", sumsFile(d.version.name), err)
	}

	if err := format(ctx, distribution{version: d.version, dir: tmp}); err != nil {
		return err
	}
	return os.Rename(tmp, d.dir)
}

// checkSums compares a folder with a list of names and SHA-256 sums: nothing may
// be changed, missing or more.
func checkSums(dir string, sums []byte) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	got := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		got[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	var problems []error
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		switch {
		case got[name] == "":
			problems = append(problems, fmt.Errorf("%s is missing", name))
		case got[name] != sum:
			problems = append(problems, fmt.Errorf("%s has the sum %s, want %s", name, got[name], sum))
		}
		delete(got, name)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		problems = append(problems, fmt.Errorf("%s is not listed", name))
	}
	return errors.Join(problems...)
}

// format lets Kafka write the bootstrap records of a cluster: its features and
// SCRAM users. It costs a JVM start, which clusters are spared this way.
func format(ctx context.Context, d distribution) error {
	config := filepath.Join(d.dir, "format.properties")
	properties := properties{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       "1@127.0.0.1:9093",
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                       d.formatted(),
	}
	if err := properties.writeFile(config); err != nil {
		return err
	}

	args := append([]string{"kafka.tools.StorageTool", "format", "-t", newClusterID(), "-c", config}, scramArgs()...)
	if out, err := d.java(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format Kafka's storage: %w\n%s", err, out)
	}
	return os.Remove(filepath.Join(d.formatted(), metaProperties)) // every node has its own
}

func scramArgs() []string {
	var args []string
	for _, user := range []string{User, Guest} {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, user, Password))
		}
	}
	return args
}

// java is a short-lived JVM with Kafka's classes.
func (d distribution) java(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "java", append([]string{
		"-Xmx256m",
		"-XX:+UseSerialGC",
		"-XX:TieredStopAtLevel=1",
		"-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", d.classpath(),
	}, args...)...)
}

// cacheDir holds the distribution and the running clusters' data.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "kafkax"), nil
}
