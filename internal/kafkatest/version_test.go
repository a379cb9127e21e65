package kafkatest

import (
	"fmt"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	const unknown = ", and known are 3.9.1, 4.0.2, 4.3.1, 4.4.0: set one of them, or nothing for 4.4.0"
	tests := []struct {
		name, value string
		want        string // the version
		wantErr     string
	}{
		{name: "nothing", value: "", want: DefaultVersion},
		{name: "3.9", value: "3.9.1", want: "3.9.1"},
		{name: "4.0", value: "4.0.2", want: "4.0.2"},
		{name: "4.3", value: "4.3.1", want: "4.3.1"},
		{name: "4.4", value: "4.4.0", want: "4.4.0"},
		{name: "unknown", value: "2.8.0", wantErr: `KAFKATEST_VERSION is "2.8.0"` + unknown},
		{name: "part_of_a_version", value: "4.4", wantErr: `KAFKATEST_VERSION is "4.4"` + unknown},
		{name: "space", value: "4.4.0 ", wantErr: `KAFKATEST_VERSION is "4.4.0 "` + unknown},
		{name: "path", value: "../jars/4.4.0", wantErr: `KAFKATEST_VERSION is "../jars/4.4.0"` + unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := choose(tt.value)
			if got.name != tt.want {
				t.Errorf("got version %q, want %q", got.name, tt.want)
			}
			if text := errorText(err); text != tt.wantErr {
				t.Errorf("got error %q, want %q", text, tt.wantErr)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A version's list is of jars alone, and of its own that matter most.
func TestJarSumsAreListed(t *testing.T) {
	t.Parallel()
	known, err := versions()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range known {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for line := range strings.Lines(string(v.sums)) {
				line = strings.TrimSpace(line)
				sum, name, _ := strings.Cut(line, "  ")
				if len(sum) != 64 || !strings.HasSuffix(name, ".jar") {
					t.Errorf("%q is not a SHA-256 sum and a jar", line)
				}
			}
			for _, artifact := range []string{"kafka_2.13", "kafka-clients", "kafka-tools"} {
				jar := fmt.Sprintf("%s-%s.jar", artifact, v.name)
				if !strings.Contains(string(v.sums), "  "+jar+"\n") {
					t.Errorf("%s is not listed", jar)
				}
			}
		})
	}
}
