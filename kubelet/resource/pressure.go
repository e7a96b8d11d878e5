package resource

// Pressure says what the node is short of.
type Pressure struct{ Memory, Disk, PIDs bool }
