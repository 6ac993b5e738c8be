package engineio

// tryWriter is the one seam of writing without blocking: it writes what is taken now, n < len(p) with no error when not
// all of it was. Called by the holder of the write token only.
type tryWriter interface {
	tryWrite(p []byte) (n int, err error)
}
