package main

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"io"
	"os"
	"slices"
	"time"
)

// archive is a tar.gz whose bytes depend on nothing but what is in it: names are sorted, and there is one time and one
// owner.
type archive struct {
	entries []entry
	time    time.Time
}

type entry struct {
	name    string // with slashes
	mode    int64
	content []byte
}

func (a archive) writeTo(w io.Writer) error {
	packed := gzip.NewWriter(w) // its header has neither name nor time unless it is given them
	tape := tar.NewWriter(packed)
	entries := slices.SortedFunc(slices.Values(a.entries), func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	for _, e := range entries {
		header := tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: a.time,
			Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		}
		if err := tape.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := tape.Write(e.content); err != nil {
			return err
		}
	}
	if err := tape.Close(); err != nil {
		return err
	}
	return packed.Close()
}

// write makes a file, which is whole or an error.
func write(name string, content func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := content(f); err != nil {
		_ = f.Close() // the first error says more
		return err
	}
	return f.Close()
}
