-- Sends the results of Fracture Map, and nothing else, on to the PACS by C-STORE (PACS_HOST, PACS_PORT, PACS_AET).
-- Images that a scanner or the PACS sent here stay here.

local results = { SR = true, SEG = true, KO = true, OT = true, DOC = true }

function OnStoredInstance(instance, tags)
  local wanted = os.getenv('PACS_HOST')
  if wanted and wanted ~= '' and tags['Manufacturer'] == 'Fracture Map' and results[tags['Modality']] then
    SendToModality(instance, 'pacs')
  end
end
