package cli

import (
	"testing"

	"sagong/config"
)

func TestTheUnnamedClusterKeepsItsDefaultsAndNamedOnesLeaveThem(t *testing.T) {
	none := func(string) bool { return false }
	plain := config.Defaults()
	avoidSiblings(&plain, none)
	if d := config.Defaults(); plain.Listen != d.Listen || plain.ClusterCIDR != d.ClusterCIDR || plain.KubeletPort != d.KubeletPort {
		t.Errorf("the unnamed cluster moved to %s, %s, %d", plain.Listen, plain.ClusterCIDR, plain.KubeletPort)
	}
	named := config.Defaults()
	named.Name = "two"
	avoidSiblings(&named, none)
	if named.Listen == "" || named.ClusterCIDR == plain.ClusterCIDR || named.ServiceCIDR == plain.ServiceCIDR || named.KubeletPort == plain.KubeletPort {
		t.Errorf("a named cluster has %s, %s, %s, %d", named.Listen, named.ClusterCIDR, named.ServiceCIDR, named.KubeletPort)
	}
	// What was asked for stays.
	asked := config.Defaults()
	asked.Name, asked.KubeletPort = "two", 10250
	avoidSiblings(&asked, func(flag string) bool { return flag == "kubelet-port" })
	if asked.KubeletPort != 10250 {
		t.Errorf("a port that was given became %d", asked.KubeletPort)
	}
}
