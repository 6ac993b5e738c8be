package engineio

// tryWriter is the one seam of writing without blocking.
type tryWriter interface {
	// tryWrite writes what is taken now, n < len(p) with no error when not all of it was. Called by the holder of the write
	// token only.
	tryWrite(p []byte) (n int, err error)
	// close returns once no tryWrite is under way; those that come later fail. It comes before the connection is closed.
	close()
}
