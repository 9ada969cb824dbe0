{
  virtualisation.vmVariant.virtualisation.graphics = false;
}
