package kafkax

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
)

const (
	// maxFileBytes is far above any bundle of certificates, and bounds what a
	// file of another kind takes.
	maxFileBytes = 1 << 20

	// configFileKey names, in errors, the user's YAML file, which no key can.
	configFileKey = "config_file"

	// othersWrite are the bits of a file's mode that let its group and everybody
	// write it.
	othersWrite = 0o022
)

// configFile is a file that a key names.
type configFile struct {
	key  string
	path string
}

// contents returns what the file holds, or a [ConfigError] with key and rule. What
// is no regular file is refused, and what is larger than 1 MiB: a pipe would
// block until somebody writes it, a device has no end. The file that was opened
// is judged, so nobody can put another in its place between the two. It blocks
// for as long as the file system does, see configFiles.
//
// risk says that others may write the file, who could put something of theirs in
// its place. Who may read it is no concern here: a secret that an orchestrator
// mounts is readable by all that runs in its container.
func (f configFile) contents() (content []byte, risk string, err error) {
	fail := func(rule string, cause error) ([]byte, string, error) {
		return nil, "", &ConfigError{Key: f.key, Rule: rule, Err: cause}
	}
	// With O_NONBLOCK, opening a pipe that nobody writes returns too.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fail("cannot be read: "+pathless(err).Error(), pathless(err))
	}
	defer file.Close() //nolint:errcheck // it was only read
	info, err := file.Stat()
	switch {
	case err != nil:
		return fail("cannot be read: "+pathless(err).Error(), pathless(err))
	case !info.Mode().IsRegular():
		return fail("must be a regular file", nil)
	}
	content, err = io.ReadAll(io.LimitReader(file, maxFileBytes+1)) // Its size says little of a file that grows.
	switch {
	case err != nil:
		return fail("cannot be read: "+pathless(err).Error(), pathless(err))
	case len(content) > maxFileBytes:
		return fail("must be a file of at most 1 MiB", nil)
	}
	return content, f.risk(info.Mode().Perm()), nil
}

func (f configFile) risk(mode os.FileMode) string {
	if runtime.GOOS != "windows" && mode&othersWrite != 0 { // modes say nothing there about who may do what
		return fmt.Sprintf("others may write it (mode %04o): take that right away", mode)
	}
	return ""
}

// pathless is the reason alone: the path is in the error already, or is not to
// be shown.
func pathless(err error) error {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// configFiles are read together.
type configFiles []configFile

// filesRead is what reading them gave.
type filesRead struct {
	contents map[string][]byte // by key
	risks    map[string]string // by key; see configFile.contents
	err      error             // every problem, joined
}

// read reads them on a goroutine of its own, as a file system that hangs holds
// up whoever reads from it, and nothing can be done about that. The channel
// gets one value, when there is one: the wait for it is the caller's to bound.
func (fs configFiles) read() <-chan filesRead {
	result := make(chan filesRead, 1)
	go func() { // ends with the file system's answer
		out := filesRead{contents: make(map[string][]byte, len(fs)), risks: make(map[string]string)}
		var problems []error
		for _, f := range fs {
			content, risk, err := f.contents()
			if err != nil {
				problems = append(problems, err)
				continue
			}
			out.contents[f.key] = content
			if risk != "" {
				out.risks[f.key] = risk
			}
		}
		out.err = errors.Join(problems...)
		result <- out
	}()
	return result
}

// unread are the errors of files that were not read in time.
func (fs configFiles) unread(cause error) error {
	problems := make([]error, len(fs))
	for i, f := range fs {
		problems[i] = &ConfigError{Key: f.key, Rule: "was not read in time: does its file system answer?", Err: cause}
	}
	return errors.Join(problems...)
}
