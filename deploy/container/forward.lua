-- Whatever Orthanc keeps and is an ECG goes on to the bridge, which says 0000 also to what it has already.
-- It is tried once: what the bridge did not take, such as while it was down, is sent again by hand (deploy/runbook.md).
local ECG = {
   ["1.2.840.10008.5.1.4.1.1.9.1.1"] = true,
   ["1.2.840.10008.5.1.4.1.1.9.1.2"] = true,
   ["1.2.840.10008.5.1.4.1.1.9.1.3"] = true,
   ["1.2.840.10008.5.1.4.1.1.9.1.4"] = true,
}

function OnStoredInstance(instanceId, tags, metadata)
   if ECG[metadata["SopClassUid"]] then
      SendToModality(instanceId, "bridge")
   end
end
