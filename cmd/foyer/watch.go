package main

import (
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// watcher tells of changes of files. It watches their directories and not the files: an editor or a renewal puts a new
// file in the place of the old one, and Kubernetes exchanges a symbolic link beside it. Any change there counts; the
// listener compares what is in the files.
type watcher struct {
	changes chan struct{} // 1: something has changed since this was read

	log  *zap.Logger
	fs   *fsnotify.Watcher // nil: the system tells of no changes
	done sync.WaitGroup
}

// newWatcher starts a goroutine, which ends with close.
func newWatcher(log *zap.Logger) *watcher {
	w := &watcher{changes: make(chan struct{}, 1), log: log}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("changes of files are seen within a minute only", zap.NamedError("err", err))
		return w
	}
	w.done.Go(func() {
		for {
			select {
			case _, ok := <-w.fs.Events:
				if !ok {
					return
				}
			case _, ok := <-w.fs.Errors: // such as more changes than the system keeps: there was one
				if !ok {
					return
				}
			}
			select {
			case w.changes <- struct{}{}:
			default:
			}
		}
	})
	return w
}

// follow watches the directories of these files and no others. It is for one goroutine, and to be called again when
// files have changed, since they may be elsewhere then.
func (w *watcher) follow(files []string) {
	if w.fs == nil {
		return
	}
	var dirs []string
	for _, f := range files {
		dirs = append(dirs, directories(f)...)
	}
	watched := w.fs.WatchList()
	for _, d := range watched {
		if !slices.Contains(dirs, d) {
			_ = w.fs.Remove(d)
		}
	}
	for _, d := range dirs {
		if slices.Contains(watched, d) {
			continue
		}
		if err := w.fs.Add(d); err != nil {
			w.log.Debug("changes in a directory are seen within a minute only", zap.String("dir", d), zap.NamedError("err", err))
		}
	}
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
		w.done.Wait()
	}
}

// directories are those in which a change may change the file of this name: its own, and those of the files that it is
// a symbolic link to, one after the other.
func directories(file string) []string {
	const links = 40 // as many as Linux follows
	var dirs []string
	for range links {
		dir, err := filepath.EvalSymlinks(filepath.Dir(file))
		if err != nil {
			break
		}
		dirs = append(dirs, dir)
		if given := filepath.Clean(filepath.Dir(file)); given != dir {
			// The way there has a link in it, as ..data in a volume of Kubernetes: its exchange is a change in its parent.
			dirs = append(dirs, filepath.Dir(given))
		}
		to, err := os.Readlink(file)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(file), to)
		}
		file = to
	}
	return dirs
}
