{
  virtualisation.hypervGuest.enable = true;
}
