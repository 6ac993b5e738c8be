package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// settle is how long after the last change the files are looked at. A program that writes two files, or a long one,
	// has done so by then. Changes that never end are looked at settleMost after the first one.
	settle     = 500 * time.Millisecond
	settleMost = 5 * time.Second
	// lookEvery is how often they are looked at when nothing tells of changes, as on a network's file system.
	lookEvery = time.Minute
)

// reloads is the one list of what a running node reads again: at SIGHUP, when a file changes, and every minute. The
// same list is read at the start.
func (f *foyer) reloads() []*reloadable {
	pair := func(what string, p tlsPair) []source {
		return []source{{"--" + what + "-cert", p.Cert}, {"--" + what + "-key", p.Key}}
	}
	between := f.s.ClusterFlags.TLS
	all := []*reloadable{
		{name: "edge certificate", files: pair("edge", f.s.EdgeTLS), take: f.edgeCert.take},
		{name: "API certificate", files: pair("api", f.s.APITLS), take: f.apiCert.take},
		{name: "HTTP certificate", files: pair("http", f.s.HTTPTLS), take: f.http.cert.take},
		{
			name: "cluster certificate", take: f.membership.take,
			files: []source{{"--cluster-tls-cert", between.Cert}, {"--cluster-tls-key", between.Key}, {"--cluster-tls-ca", between.CA}},
		},
		f.configuration(),
		{name: "API tokens", files: []source{{"--api-token-file", f.s.APITokenFile}}, take: f.tokens.take},
		{name: "UI passwords", files: []source{{"--ui-password-file", f.s.UIPasswordFile}}, take: f.ui.takeUsers},
	}
	var set []*reloadable
	for _, r := range all {
		if r.files[0].path != "" {
			set = append(set, r)
		}
	}
	return set
}

// reloadable is a setting that comes from files and can change while the node runs.
type reloadable struct {
	name  string // as the log has it
	files []source
	// take puts what the files say to use and tells in a few words what that is. An error changes nothing; what is wrong
	// with one of the files is a contentError.
	take func(contents [][]byte) (news string, err error)

	known bool // its first contents were in use before it was made

	// Owned by who loads.
	sum  [sha256.Size]byte // of the contents in use
	told string            // the error that the log has been told since
}

// source is a file and the flag that names it.
type source struct{ flag, path string }

// contentError says which of a reloadable's files is wrong.
type contentError struct {
	file int
	err  error
}

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// load reads the files and takes them unless they are those in use: then there is no news. Errors name flag and file.
func (r *reloadable) load() (news string, err error) {
	contents := make([][]byte, len(r.files))
	for i, f := range r.files {
		if contents[i], err = readBounded(f.path, maxFileBytes); err != nil {
			return "", fileError(f, err)
		}
	}
	sum := sumOf(contents)
	if sum == r.sum {
		return "", nil
	}
	if news, err = r.take(contents); err != nil {
		if e, ok := errors.AsType[*contentError](err); ok {
			return "", fmt.Errorf("%s: %s: %w", r.files[e.file].flag, r.files[e.file].path, e.err)
		}
		return "", fmt.Errorf("%s: %w", r.name, err)
	}
	r.sum = sum
	return news, nil
}

func sumOf(contents [][]byte) [sha256.Size]byte {
	all := sha256.New()
	for _, text := range contents {
		one := sha256.Sum256(text)
		all.Write(one[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}

// maxFileBytes bounds what is read of any other file: more than certificates or tokens ever need.
const maxFileBytes = 4 << 20

var (
	errIrregular = errors.New("it is no regular file")
	errLarge     = errors.New("it is too large")
)

// readBounded reads a regular file of so many bytes at most. It never waits for a writer, as a pipe would have it do.
func readBounded(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, syscall.EISDIR
	case !info.Mode().IsRegular():
		return nil, errIrregular
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		return nil, errLarge
	}
	return text, err
}

// fileError says why a file cannot be read.
func fileError(f source, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no file %s", f.flag, f.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: this user has no permission to read %s", f.flag, f.path)
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s: %s is a directory and not a file", f.flag, f.path)
	case errors.Is(err, errIrregular):
		return fmt.Errorf("%s: %s is a pipe or a device and not a file", f.flag, f.path)
	case errors.Is(err, errLarge):
		return fmt.Errorf("%s: %s is too large; was another file meant?", f.flag, f.path)
	}
	return fmt.Errorf("%s: %w", f.flag, err)
}

// reloader looks after what can be reloaded.
type reloader struct {
	log     *zap.Logger
	parts   []*reloadable
	watched func(paths []string) // has changes of these files told; called after each look
}

// run looks at the files when asked says so, soon after a change, and every minute, until ctx ends. They are looked at
// once at the beginning: they may have changed since the start.
func (r *reloader) run(ctx context.Context, asked <-chan os.Signal, changes <-chan struct{}) {
	r.watch()
	r.look(false)
	began := time.Time{} // when the first change came that was not looked at; zero: there is none
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-asked:
			r.look(true)
		case <-timer.C:
			r.look(false)
		case <-changes: // somebody may be writing still
			if began.IsZero() {
				began = time.Now()
			}
			timer.Reset(min(settle, settleMost-time.Since(began)))
			continue
		case <-ctx.Done():
			return
		}
		began = time.Time{}
		timer.Reset(lookEvery)
	}
}

// look reloads what has changed. Of a fault it tells once, and again when it is asked to look.
func (r *reloader) look(asked bool) {
	var changed []string
	broken := false
	for _, p := range r.parts {
		news, err := p.load()
		switch {
		case err != nil:
			broken = true
			if asked || p.told != err.Error() {
				r.log.Warn("not reloaded: "+p.name+" stays as it is until the file is good", zap.NamedError("err", err))
			}
			p.told = err.Error()
		case news != "":
			changed = append(changed, p.name+" "+news)
			fallthrough
		default:
			p.told = ""
		}
	}
	r.watch()
	switch {
	case len(changed) > 0:
		r.log.Info("reloaded", zap.Strings("changed", changed), zap.Bool("signal", asked))
	case asked && len(r.parts) == 0:
		r.log.Info("nothing to reload: there is no configuration file, no certificate and no token file")
	case asked && !broken:
		r.log.Info("nothing to reload: no file has changed")
	}
}

func (r *reloader) watch() {
	if r.watched == nil {
		return
	}
	var paths []string
	for _, p := range r.parts {
		for _, f := range p.files {
			paths = append(paths, f.path)
		}
	}
	r.watched(paths)
}
