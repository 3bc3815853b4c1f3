"""What people said of SR outputs: public sets and tables of scores and marked regions."""
