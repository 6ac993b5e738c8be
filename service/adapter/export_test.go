package adapter

// Epochs is how many epochs this node has begun.
func (c *Cluster) Epochs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.peers.epochs)
}
