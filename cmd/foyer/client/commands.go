package client

// Commands are those that ask a node. The binary embeds them among its own.
type Commands struct {
	Emit       emitCommand       `cmd:"" group:"Clients and rooms" help:"Send an event to the clients of a target; with --ack, wait for their acknowledgements."`
	Join       joinCommand       `cmd:"" group:"Clients and rooms" help:"Put the sockets of a target into rooms."`
	Leave      leaveCommand      `cmd:"" group:"Clients and rooms" help:"Take the sockets of a target out of rooms."`
	Disconnect disconnectCommand `cmd:"" group:"Clients and rooms" help:"Disconnect the sockets of a target."`
	Rooms      roomsCommand      `cmd:"" group:"Clients and rooms" help:"List rooms and how many sockets are in each."`
	Sockets    socketsCommand    `cmd:"" group:"Clients and rooms" help:"List the sockets of a target; without one, of the namespace."`
	Socket     socketCommand     `cmd:"" group:"Clients and rooms" help:"Show all of one socket."`
	Watch      watchCommand      `cmd:"" group:"Clients and rooms" help:"Follow who is there: first all, then each change as it happens."`
	Tail       tailCommand       `cmd:"" group:"Clients and rooms" help:"Show what browsers send, as they send it. It slows nobody: what it cannot take is left out, and counted."`
	Explain    explainCommand    `cmd:"" group:"Clients and rooms" help:"Say whom an emit to a target would reach, whom not, and why. Nothing is sent."`
	Nodes      nodesCommand      `cmd:"" group:"Nodes" help:"List the nodes of a cluster, as one of them sees them."`
	Handlers   handlersCommand   `cmd:"" group:"Nodes" help:"List the handlers that are attached, and what each has to do."`
	Drain      drainCommand      `cmd:"" group:"Nodes" help:"Empty a node: it takes no new sessions, and those that it has are closed over a time, so that clients come back elsewhere."`
	Context    contextCommand    `cmd:"" group:"Nodes" help:"Keep names for the places of nodes."`
	Completion completionCommand `cmd:"" help:"Print a script by which bash, zsh or fish completes command lines."`
}
