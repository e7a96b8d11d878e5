package volume

// all lists the types of volumes that this node can mount.
func all(m *Manager) []Type {
	return []Type{
		emptyDir{m}, hostPath{}, configMap{m}, secret{m}, downwardAPI{m}, projected{m}, claim{m}, nfs{m}, image{m},
	}
}
