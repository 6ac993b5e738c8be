// Package payload checks and cuts the JSON that Socket.IO packets carry without ever decoding it: what a client or a
// backend sent goes on byte by byte, so it must be right before it is let in.
//
// The walk: Check (an array of arguments or an event with its name first) or CheckObject (auth data) looks at every
// byte once, without recursion and without allocating. After it, Name, Split and Event take an event array apart and
// put one together; Members, Items and End walk any other value.
//
// All functions are safe for concurrent use, keep nothing that they are given, and start nothing.
package payload
