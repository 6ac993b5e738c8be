package socketio

// joining is a packet that waits for its attachments (Socket.IO protocol v5, "Binary attachments").
type joining struct {
	in      incoming
	bytes   int  // of payload and attachments so far
	discard bool // the packet will be ignored, but its attachments have to be counted
}

// begin waits for the attachments of in.
func begin(in incoming, discard bool) *joining {
	j := &joining{in: in, bytes: len(in.payload), discard: discard}
	if discard {
		j.in.payload, j.in.namespace, j.in.name = nil, nil, nil // they hold the whole message
	}
	return j
}

// add takes the next attachment, which it keeps, and says whether it was the last. The sum of payload and attachments
// must stay within maxBytes.
func (j *joining) add(data []byte, maxBytes int) (done bool, f fault) {
	if j.bytes += len(data); j.bytes > maxBytes {
		return false, faultTooLarge
	}
	if !j.discard {
		if j.in.attachments == nil {
			j.in.attachments = make([][]byte, 0, j.in.await)
		}
		j.in.attachments = append(j.in.attachments, data)
	}
	j.in.await--
	return j.in.await == 0, 0
}
