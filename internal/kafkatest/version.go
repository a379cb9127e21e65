package kafkatest

import (
	"embed"
	"fmt"
	"os"
	"path"
	"strings"
)

const (
	// VersionVariable names the variable of the environment that says which
	// version of Kafka to run. Without it that is [DefaultVersion].
	VersionVariable = "KAFKATEST_VERSION"

	// DefaultVersion is the newest of the known versions.
	DefaultVersion = "4.4.0"
)

// jarSums has a file for each known version: the SHA-256 sums of the jars that
// the pom.xml stands for with it, as sha256sum prints them. Maven's own check
// compares a jar with a sum from the same server, and only when it fetches.
//
//go:embed jars/*.sha256
var jarSums embed.FS

const (
	sumsDir       = "jars"
	sumsExtension = ".sha256"
)

func sumsFile(version string) string { return path.Join(sumsDir, version+sumsExtension) }

// version is one of Kafka's that may be run.
type version struct {
	name string
	sums []byte
}

// chosen is the version that the environment asks for.
func chosen() (version, error) { return choose(os.Getenv(VersionVariable)) }

func choose(name string) (version, error) {
	if name == "" {
		name = DefaultVersion
	}
	known, err := versions()
	if err != nil {
		return version{}, err
	}
	var names []string
	for _, v := range known {
		if v.name == name {
			return v, nil
		}
		names = append(names, v.name)
	}
	return version{}, fmt.Errorf("%s is %q, and known are %s: set one of them, or nothing for %s",
		VersionVariable, name, strings.Join(names, ", "), DefaultVersion)
}

// versions are those that are known, in the order of their names.
func versions() ([]version, error) {
	files, err := jarSums.ReadDir(sumsDir)
	if err != nil {
		return nil, err
	}
	var all []version
	for _, file := range files {
		name := strings.TrimSuffix(file.Name(), sumsExtension)
		sums, err := jarSums.ReadFile(sumsFile(name))
		if err != nil {
			return nil, err
		}
		all = append(all, version{name: name, sums: sums})
	}
	return all, nil
}
